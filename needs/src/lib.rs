//! Says what a test needs of the machine: `#[needs(qemu)]` above `#[test]`. Where it is not there the
//! test shows as ignored, with what is missing; nothing returns early and looks as if it had passed.
//! What `RECOUNT_REQUIRE` names, as in `RECOUNT_REQUIRE=qemu,loop,browser`, is taken to be there, so
//! that the test runs, and fails without it.
//!
//! The test harness knows no test that is ignored at run time: the machine is looked at when the test
//! is compiled, and again when `RECOUNT_REQUIRE` changes. After an installation name it there.

mod tool;

use proc_macro::{TokenStream, TokenTree};

use tool::Tool;

/// Ignores the test below where the machine lacks one of these: `qemu`, `loop`, `browser`, `fuse`.
#[proc_macro_attribute]
pub fn needs(names: TokenStream, test: TokenStream) -> TokenStream {
    let tools = match tools(&names) {
        Ok(tools) => tools,
        Err(wrong) => return error(&wrong).into_iter().chain(test).collect(),
    };
    if !is_test(&test) {
        let wrong = "`needs` goes above `#[test]`";
        return error(wrong).into_iter().chain(test).collect();
    }
    let required = std::env::var(tool::REQUIRE).unwrap_or_default();
    let missing = tools
        .iter()
        .find(|tool| !tool.is_required(&required) && !tool.is_there());
    let ignore = missing.map(|tool| parsed(&format!("#[ignore = {:?}]", tool.missing())));
    // Has the compiler look again when it changes.
    let tracked = format!("const _: Option<&str> = option_env!({:?});", tool::REQUIRE);
    let tracked = parsed(&tracked);
    tracked
        .into_iter()
        .chain(ignore.into_iter().flatten())
        .chain(test)
        .collect()
}

/// Whether `RECOUNT_REQUIRE` names a tool: what is compared with in passing has to be there as well.
#[proc_macro]
pub fn required(names: TokenStream) -> TokenStream {
    let tools = match tools(&names) {
        Ok(tools) => tools,
        Err(wrong) => return error(&wrong),
    };
    let required = std::env::var(tool::REQUIRE).unwrap_or_default();
    let all = tools.iter().all(|tool| tool.is_required(&required));
    parsed(&format!(
        "{{ const _: Option<&str> = option_env!({:?}); {all} }}",
        tool::REQUIRE
    ))
}

fn tools(names: &TokenStream) -> Result<Vec<Tool>, String> {
    let names = names.to_string();
    names.split(',').map(|name| name.trim().parse()).collect()
}

/// Whether an attribute `#[test]` is still to come.
fn is_test(item: &TokenStream) -> bool {
    item.clone().into_iter().any(|token| match token {
        TokenTree::Group(group) => group.stream().to_string() == "test",
        _ => false,
    })
}

fn error(message: &str) -> TokenStream {
    parsed(&format!("compile_error!({message:?});"))
}

fn parsed(code: &str) -> TokenStream {
    code.parse().expect("what is written above is Rust")
}
