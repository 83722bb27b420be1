//! A repair that its observer stops: between phases, with what it has written durable, and repeatable.

use recount::{MemoryStorage, Observer, RepairError, RepairOptions, Stage, Step};

/// Lets so many phases be written.
struct Until {
    phases: u64,
    begun: u64,
    steps: Vec<Step>,
}

impl Observer for Until {
    fn step(&mut self, step: &Step) {
        self.steps.push(*step);
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        if stage == Stage::Writing && done < total {
            self.begun += 1;
        }
    }

    fn is_cancelled(&self) -> bool {
        self.begun >= self.phases
    }
}

/// An image whose refblock was zeroed.
fn damaged() -> Vec<u8> {
    let mut image = include_bytes!("leak.qcow2").to_vec();
    let number = |image: &[u8], at: usize| {
        let bytes = image[at..at + 8].try_into().expect("8 bytes");
        u64::from_be_bytes(bytes) as usize
    };
    let refblock = number(&image, number(&image, 48));
    image[refblock..refblock + 512].fill(0);
    image
}

#[test]
fn a_repair_stops_before_its_next_phase_and_the_next_one_ends_as_it_would_have() {
    let options = RepairOptions::default();
    let mut whole = MemoryStorage::growing(damaged());
    let plan = recount::repair::plan(&whole, &options, &mut ()).expect("a plan");
    let phases = plan.phases.len() as u64;
    assert!(phases > 1);
    recount::repair(&mut whole, &options, &mut ()).expect("a repair");
    for stops in 0..phases {
        let mut storage = MemoryStorage::growing(damaged());
        let mut until = Until {
            phases: stops,
            begun: 0,
            steps: Vec::new(),
        };
        let failure = recount::repair(&mut storage, &options, &mut until).expect_err("stopped");
        assert!(
            matches!(failure.error, RepairError::Cancelled),
            "{failure:?}"
        );
        assert_eq!(failure.has_written, stops > 0);
        assert_eq!(failure.done, until.steps);
        let report = recount::repair(&mut storage, &options, &mut ())
            .expect("a repair")
            .report;
        assert!(report.is_clean(), "after {stops} phases: {report:?}");
    }
    let mut all = Until {
        phases: phases + 1,
        begun: 0,
        steps: Vec::new(),
    };
    let mut storage = MemoryStorage::growing(damaged());
    recount::repair(&mut storage, &options, &mut all).expect("a repair");
    assert_eq!(all.begun, phases);
}
