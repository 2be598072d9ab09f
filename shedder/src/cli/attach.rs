//! `shedder attach` and `shedder detach`.

use super::{Exit, print, print_json};
use crate::config::Config;
use crate::datapath::{Attachment, Datapath, NotAttached, Pins};
use anyhow::Result;
use serde_json::json;

/// Enforces a configuration without a daemon.
pub(super) fn attach(pins: &Pins, config: &Config, json: bool) -> Result<Exit> {
    let state = Datapath::claim(pins)?.install(config)?;
    let interfaces = state.interfaces();
    let mut obeyed = true;
    let mut lines = Vec::new();
    for interface in &interfaces {
        let dry = if interface.dry_run { ", dry run: nothing is dropped" } else { "" };
        match &interface.attachment {
            _ if !config.interfaces.contains(&interface.name) => {
                obeyed = false;
                lines.push(format!("{}: NOT LET GO: attach again\n", interface.name));
            }
            Attachment::Whole => {
                lines.push(format!("{}: attached, {} mode{dry}\n", interface.name, interface.mode.name()));
                // Ours was put first: somebody was faster.
                if let Some(why) = interface.preceded() {
                    obeyed = false;
                    lines.push(format!("NOT FIRST: {why}\n"));
                }
            }
            Attachment::Broken(why) => {
                obeyed = false;
                lines.push(format!("{}: NOT HELD: {why}\n", interface.name));
            }
        }
    }
    if json {
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|i| {
                let fault = match &i.attachment {
                    Attachment::Whole => i.preceded(),
                    Attachment::Broken(why) => Some(why.clone()),
                };
                json!({
                    "name": i.name, "mode": i.mode.name(), "dry_run": i.dry_run,
                    "attached": i.attachment == Attachment::Whole, "fault": fault,
                })
            })
            .collect();
        print_json(&json!({ "action": "attach", "interfaces": interfaces, "obeyed": obeyed }));
    } else {
        print(&lines.concat());
    }
    Ok(if obeyed { Exit::Done } else { Exit::NotObeyed })
}

/// Removes what is attached.
pub(super) fn detach(pins: &Pins, interfaces: &[String], json: bool) -> Result<Exit> {
    if !pins.exist()? {
        return Err(NotAttached::under(pins).into());
    }
    let gone = Datapath::claim(pins)?.detach(interfaces)?;
    let left = !pins.exist()?;
    if json {
        print_json(&json!({ "action": "detach", "detached": gone, "nothing_left": left }));
    } else {
        for name in &gone {
            print(&format!("{name}: detached\n"));
        }
        if left {
            print(&format!("nothing is left under {}\n", pins.root().display()));
        }
    }
    Ok(Exit::Done)
}
