//! A finding as a page that opens from disk: no script, nothing loaded from elsewhere.

use maud::{Markup, PreEscaped, html};

use super::account::Block;
use super::clusters::Table;
use super::files;

/// How it looks; light or dark as the reader's system is.
const STYLE: &str = include_str!("page.css");

/// The page.
pub fn of(blocks: &[Block], tables: [&Result<Table, String>; 2], script: &str) -> String {
    let title = blocks.iter().find_map(|block| match block {
        Block::Title(title) => Some(title.replace('`', "")),
        _ => None,
    });
    let page = html! {
        (PreEscaped("<!doctype html>"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title.unwrap_or_default()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    nav {
                        @for file in files::ALL { a href=(file) { (file) } }
                    }
                    @for block in blocks { (part(block)) }
                    h2 { "The clusters before" }
                    (clusters(tables[0]))
                    h2 { "The clusters after" }
                    (clusters(tables[1]))
                    h2 { (files::SCRIPT) }
                    pre .script { (script) }
                }
            }
        }
    };
    page.into_string()
}

fn part(block: &Block) -> Markup {
    html! {
        @match block {
            Block::Title(title) => h1 { (inline(title)) },
            Block::Heading(title) => h2 { (title) },
            Block::Text(text) => p { (inline(text)) },
            Block::Code(text) => pre { (text) },
            Block::List(list) => ul { @for one in list { li { (inline(one)) } } },
            Block::Link(text, place) => p { (text) " " a href=(place) { (place) } },
            Block::Quote(text) => blockquote { (text) },
        }
    }
}

/// What is between backticks is code.
fn inline(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn clusters(table: &Result<Table, String>) -> Markup {
    let table = match table {
        Ok(table) => table,
        Err(why) => return html! { p .bad { "There is nothing to list: " (why) "." } },
    };
    html! {
        p { (table.about) ". “L2 entry 0/3” is entry 3 of the L2 table that entry 0 of the L1 table \
             leads to. Snapshots and bitmaps are counted from 0." }
        div .wide {
            table {
                thead {
                    tr {
                        @for head in ["cluster", "refers to it", "references", "refcount", ""] {
                            th { (head) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr .bad[!row.state.is_right()] {
                            td { (row.clusters()) }
                            td .words { (row.refers) }
                            td { (row.references) }
                            td { (row.refcount()) }
                            td .words { (row.state) }
                        }
                    }
                }
            }
        }
        @if table.left_out > 0 { p { "… and " (table.left_out) " lines more" } }
        @if !table.wrong.is_empty() {
            p { "Also wrong:" }
            ul .bad { @for one in &table.wrong { li { (one) } } }
        }
    }
}
