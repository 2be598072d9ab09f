//! Frames that went to the host, and what the programs counted of them.

use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Packets by reason.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Where both stood at a time when nothing was on its way: from then on they grow alike.
#[derive(Debug, Default)]
pub(crate) struct Account {
    sent: u64,
    counted: u64,
}

/// How long it may take until nothing is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

impl Account {
    /// Opens one, while nobody sends.
    pub(crate) fn open(world: &World<'_>) -> Result<Account> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = world.sent()?;
            let counted = counted(&world.status()?).values().sum();
            if world.sent()? == sent {
                return Ok(Account { sent, counted });
            }
            ensure!(Instant::now() < deadline, "somebody goes on sending");
        }
    }

    /// Every frame that was sent since was counted under a reason, once. Answers with the counts.
    pub(crate) fn explain(&self, world: &World<'_>) -> Result<Counts> {
        // Both are read while traffic goes on: what was sent before one reading is counted by the next.
        let least = world.sent()? - self.sent;
        let counts = counted(&world.status()?);
        let most = world.sent()? - self.sent;
        let counted = counts.values().sum::<u64>() - self.counted;
        ensure!(
            (least..=most).contains(&counted),
            "unexplained packets: from {least} to {most} were sent, and {counted} were counted: {counts:?}"
        );
        Ok(counts)
    }

    /// The programs have counted so much, on an interface that is gone: no less than when this was opened.
    pub(crate) fn has_not_gone_back(&self, counted: u64) -> Result<()> {
        ensure!(counted >= self.counted, "a counter went back: {} before, {counted} now", self.counted);
        Ok(())
    }

    /// Opens the next one on an interface that was made anew, while nobody sends, where the programs had counted
    /// `counted` before. Answers with the frames that met no program as well.
    pub(crate) fn open_on_another(world: &World<'_>, counted: u64) -> Result<(Account, u64)> {
        let account = Account::open(world)?;
        let since = account.counted.checked_sub(counted);
        let unseen = since.and_then(|since| account.sent.checked_sub(since));
        let unseen = unseen.with_context(|| {
            format!(
                "unexplained packets: {} were sent through an interface that was made again, and the programs went from \
                 {counted} to {}",
                account.sent, account.counted
            )
        })?;
        Ok((account, unseen))
    }
}

/// What arrived, by reason.
pub(crate) fn counted(status: &Value) -> Counts {
    let reasons = status["interfaces"][0]["ingress"]["reasons"].as_object();
    let packets = |cell: &Value| cell["packets"].as_u64().unwrap_or_default();
    reasons.into_iter().flatten().map(|(reason, cell)| (reason.clone(), packets(cell))).collect()
}
