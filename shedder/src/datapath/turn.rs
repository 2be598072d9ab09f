//! One command at a time. A command that writes several words holds a lock meanwhile, so that what is in force is one
//! command's and no mixture. A kill waits for nobody: it is written at once, and again in its turn.

use super::fault;
use super::state::{Scope, State};
use super::sys;
use anyhow::{Context, Result, bail};
use shedder_common::words::{KillWord, OverrideWord};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long a command waits for another's end. Writing takes microseconds: whoever needs longer is stopped, or starved.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same for a kill, whose word is in force meanwhile.
const PATIENCE_OF_KILL: Duration = Duration::from_millis(200);

/// A command that was held up for so long, in the middle of its words, can have lost its turn to a kill: less than
/// [`PATIENCE_OF_KILL`].
const HELD_UP: Duration = Duration::from_millis(150);

/// The right to write words: held by at most one command, but for a kill that waited in vain.
pub struct Turn<'a> {
    state: &'a State,
    _lock: File,
    since: Instant,
}

impl<'a> Turn<'a> {
    /// Waits for it, for some seconds at most.
    ///
    /// # Errors
    /// A sentence that names the process which does not let go. Nothing was written then.
    pub fn take(state: &'a State) -> Result<Turn<'a>> {
        match wait(state, PATIENCE).context("cannot lock what commands write")? {
            Some(lock) => Ok(Turn { state, _lock: lock, since: Instant::now() }),
            None => {
                bail!("{}; nothing was written: see to that one, then say this again", stuck(state, PATIENCE))
            }
        }
    }

    /// Commands or lifts a kill.
    ///
    /// # Errors
    /// Where this process was stopped in the middle of its turn, and a kill may have come between, which is not to be lost.
    pub fn set_kill(&self, scope: Scope, word: KillWord) -> Result<()> {
        self.go_on()?;
        self.state.set_kill(scope, word);
        Ok(())
    }

    /// Commands or lifts an override.
    ///
    /// # Errors
    /// As [`Turn::set_kill`].
    pub fn set_override(&self, service: Option<usize>, word: OverrideWord) -> Result<()> {
        self.go_on()?;
        self.state.set_override(service, word);
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        fault::point()?;
        let held = self.since.elapsed();
        if held > HELD_UP {
            bail!(
                "this command was held up for {} ms in the middle of writing, and another may have come between: it wrote \
                 no more; see `shedder status`, and say it again",
                held.as_millis()
            );
        }
        Ok(())
    }
}

/// Writes a kill behind whoever is writing. To be called where it is in force already, so that it is the last to write.
/// Whoever does not let go is waited for a moment only: then it is written all the same, and a sentence says so.
pub fn insist(state: &State, scopes: &[Scope], word: KillWord) -> Option<String> {
    let turn = wait(state, PATIENCE_OF_KILL);
    loop {
        let begun = Instant::now();
        for scope in scopes {
            // Nothing makes a kill give up.
            let _ = fault::point();
            state.set_kill(*scope, word);
        }
        // Else another kill may have come between.
        if begun.elapsed() < HELD_UP {
            break;
        }
    }
    match turn {
        Ok(Some(_)) => None,
        Ok(None) => {
            Some(format!("{}; the kill was written without waiting longer", stuck(state, PATIENCE_OF_KILL)))
        }
        Err(error) => {
            Some(format!("what commands write cannot be locked ({error}): the kill was written without"))
        }
    }
}

/// What is locked: there for as long as anything is attached, and not what the daemon holds.
fn place(state: &State) -> PathBuf {
    state.pins().maps()
}

fn wait(state: &State, patience: Duration) -> io::Result<Option<File>> {
    let begun = Instant::now();
    loop {
        let lock = sys::lock(&place(state))?;
        if lock.is_some() || begun.elapsed() >= patience {
            return Ok(lock);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Who was waited for in vain.
fn stuck(state: &State, patience: Duration) -> String {
    let who = match sys::lock_holder(&place(state)) {
        Ok(Some(pid)) => format!("another command (process {pid}: `ps -o stat,args -p {pid}` shows it)"),
        _ => "another command".into(),
    };
    format!("{who} has been writing for {} ms, and is not done", patience.as_millis())
}
