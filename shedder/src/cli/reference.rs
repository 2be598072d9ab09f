//! `docs/command-line.md` and the definition of the command line say the same.

use super::Cli;
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write;
use std::{env, fs};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command-line.md");
const BEGIN: &str = "<!-- reference: begin -->\n";
const END: &str = "<!-- reference: end -->\n";

/// What stands between the marks.
fn reference() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut text = String::new();
    let _ = writeln!(text, "### Every command\n");
    table(&mut text, cli.get_arguments().filter(|argument| argument.is_global_set()));
    for command in cli.get_subcommands() {
        let _ = writeln!(text, "\n### `shedder {}`\n", command.get_name());
        let _ = writeln!(text, "```\n{}\n```\n", usage(command));
        let _ = writeln!(text, "{}.", command.get_about().expect("every command says what it does"));
        if let Some(more) = command.get_after_help() {
            let _ = writeln!(text, "{more}");
        }
        let own = |argument: &&Arg| !argument.is_global_set() && argument.get_id() != "help";
        let mut own = command.get_arguments().filter(own).peekable();
        if own.peek().is_some() {
            text.push('\n');
            table(&mut text, own);
        }
    }
    text
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").trim().to_owned()
}

fn table<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| argument | what it says |\n| --- | --- |\n");
    for argument in arguments {
        let help = argument.get_help().expect("every argument says what it does");
        let default: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match default.join(" ") {
            none if none.is_empty() || !argument.get_action().takes_values() => String::new(),
            default => format!(" (default `{default}`)"),
        };
        let _ = writeln!(text, "| `{}` | {help}{default} |", spelling(argument));
    }
}

/// The argument as it is typed.
fn spelling(argument: &Arg) -> String {
    let flags =
        [argument.get_short().map(|s| format!("-{s}")), argument.get_long().map(|l| format!("--{l}"))];
    let flags = flags.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let value = match argument.get_value_names() {
        Some([name, ..]) if argument.get_action().takes_values() => name.as_str(),
        _ => return flags,
    };
    let many = if argument.get_num_args().is_some_and(|range| range.max_values() > 1) { "..." } else { "" };
    if flags.is_empty() { value.to_owned() } else { format!("{flags} {value}{many}") }
}

#[test]
fn command_line_reference() {
    let document = fs::read_to_string(PATH).unwrap();
    let (before, rest) =
        document.split_once(BEGIN).expect("docs/command-line.md has the mark where the reference begins");
    let (found, after) =
        rest.split_once(END).expect("docs/command-line.md has the mark where the reference ends");
    if env::var_os("SHEDDER_BLESS").is_some() {
        fs::write(PATH, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
    } else {
        let advice =
            "SHEDDER_BLESS=1 cargo test -p shedder command_line_reference writes docs/command-line.md anew";
        assert_eq!(found, reference(), "{advice}");
    }
}
