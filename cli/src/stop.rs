//! Ctrl-C and SIGTERM during a repair. A check, and the planning of a repair, write nothing: there a
//! signal ends the process as it always does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal came.
#[derive(Default)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
    came: Arc<AtomicBool>,
}

impl Stop {
    /// Takes note of the next signal, and lets the one after it end the process at once.
    pub fn listen(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&self.came))?;
            flag::register(signal, Arc::clone(&self.came))?;
            flag::register_usize(
                signal,
                Arc::clone(&self.signal),
                signal.cast_unsigned() as usize,
            )?;
        }
        Ok(())
    }

    /// What a process exits with that a signal ended; `None` where none came.
    pub fn exit_code(&self) -> Option<u8> {
        let signal = self.signal.load(Ordering::SeqCst);
        (signal > 0).then_some(128 + signal as u8)
    }
}
