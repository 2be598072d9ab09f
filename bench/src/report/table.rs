//! The document.

use crate::decision;
use crate::live::{self, Flood, NEAR_BARE};
use crate::peers::{BARE, LIMITED};
use crate::results::Results;
use crate::sources::{SOURCES, SUBJECTS};
use crate::spread::{Spread, at};
use std::fmt::Write;

/// All of it, as Markdown. `folder` has the plots and the raw data.
pub(super) fn document(results: &Results, folder: &str) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = head(&mut text, results, folder)
        .and_then(|()| costs(&mut text, results))
        .and_then(|()| decisions(&mut text, results, folder))
        .and_then(|()| floods(&mut text, results, folder))
        .and_then(|()| kills(&mut text, results, folder))
        .and_then(|()| control(&mut text, results))
        .and_then(|()| accuracy(&mut text, results))
        .and_then(|()| scale(&mut text, results));
    text
}

fn spread(values: &[f64], scale: f64, digits: usize) -> String {
    Spread::of(values).map_or("-".into(), |Spread { median, min, max }| {
        let show = |value: f64| format!("{:.digits$}", value / scale);
        format!("{} ({} to {})", show(median), show(min), show(max))
    })
}

fn head(text: &mut String, results: &Results, folder: &str) -> std::fmt::Result {
    let machine = &results.machine;
    let tick = machine.tick.map_or("unknown".into(), |tick| format!("{tick} ms"));
    writeln!(
        text,
        "# Benchmarks\n\n\
         shedder beside what one would use in its place, measured in one run of `cargo xtask bench` ({} s): subjects take turns, \
         round after round, in network namespaces of their own. Figures are medians, with the least and the most in brackets. \
         What counts are the ratios: another machine has other figures. [Raw data]({folder}/raw.json).\n\n\
         Measured on {} CPUs ({}), Linux {}, clock tick {tick}, commit {}. {}.\n",
        results.seconds,
        machine.cpus,
        machine.processor,
        machine.kernel,
        machine.commit,
        machine
            .versions
            .iter()
            .map(|(name, version)| if version.starts_with(name.split('-').next().unwrap_or(name)) {
                version.clone()
            } else {
                format!("{name} {version}")
            })
            .collect::<Vec<_>>()
            .join(", "),
    )?;
    let met = results.goals.iter().filter(|goal| goal.met).count();
    writeln!(
        text,
        "## Goals\n\n{met} of {} are met. What bounds a goal, as far as it was measured, is from the same run.\n\n\
         | goal | target | found | | bounded by |\n| --- | --- | --- | --- | --- |",
        results.goals.len()
    )?;
    for goal in &results.goals {
        let bound = goal.bound.as_deref().unwrap_or_default();
        writeln!(
            text,
            "| {} | {} | {} | {} | {bound} |",
            goal.what,
            goal.target,
            goal.shown,
            goal.verdict()
        )?;
    }
    writeln!(
        text,
        "\nThe overload is one of those of [the lab](lab.md), which has more of them, and other controllers.\n"
    )
}

fn costs(text: &mut String, results: &Results) -> std::fmt::Result {
    let Ok(bare) = decision::find(&results.costs, BARE, "any") else { return Ok(()) };
    writeln!(
        text,
        "## What a decision costs\n\n\
         Nanoseconds of a test run (`BPF_PROG_TEST_RUN`, wall clock) on one source's frame: everything is in the cache. What a test \
         run takes by itself is in all of them, and is most of what the bare program takes. The designs do nothing but walk the headers, \
         by shedder's own code, and limit and count. A request is the same segment each time, as if it were sent again: one that is new reads \
         the precise clock as well.\n\n\
         | subject | frame | ns | / bare |\n| --- | --- | --- | --- |"
    )?;
    for cost in &results.costs {
        let ratio = Spread::of_ratios(&cost.nanoseconds, &bare.nanoseconds);
        let ratio = ratio.map_or("-".into(), |it| format!("{:.2}", it.median));
        writeln!(
            text,
            "| {} | {} | {} | {ratio} |",
            cost.subject,
            cost.frame,
            spread(&cost.nanoseconds, 1.0, 1)
        )?;
    }
    writeln!(text)
}

fn decisions(text: &mut String, results: &Results, folder: &str) -> std::fmt::Result {
    if results.decisions.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## By the number of sources\n\n\
         Nanoseconds of a test run, chosen at random among so many sources, what makes the frames taken out. Each source may send 100 \
         packets a second: one source is refused, of a million each is admitted until a table is full. Tables are of 1,048,576 sources. The \
         last line looks at the line of memory that a source has in a table as large as shedder's, counts, and drops: no limit per source can \
         do less.\n"
    )?;
    let names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
    writeln!(
        text,
        "| | {} | 1, two CPUs |\n| ---{} | --- |",
        names.join(" | "),
        " | ---".repeat(names.len())
    )?;
    for subject in SUBJECTS {
        write!(text, "| {subject} |")?;
        let columns = names.iter().map(|name| (*name, 1)).chain([("1", 2)]);
        for (name, cpus) in columns {
            let found = crate::sources::find(&results.decisions, subject, name, cpus);
            write!(text, " {} |", found.map_or("-".into(), |it| spread(&it.nanoseconds, 1.0, 1)))?;
        }
        writeln!(text)?;
    }
    writeln!(text, "\n![Nanoseconds by sources]({folder}/decisions.svg)\n")
}

fn floods(text: &mut String, results: &Results, folder: &str) -> std::fmt::Result {
    if results.floods.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## Floods on one CPU\n\n\
         Frames made by a program and received over a veth, both on one CPU (`BPF_F_TEST_XDP_LIVE_FRAMES`), in million a second; what \
         makes them is included. From {} on, one thing is varied. Peers are made anew for each round, because where their memory lies is \
         chance. In each case every peer has the same limit per source, and a burst of two packets. *Passed*, in thousand a second, is what \
         it let through: more than the limit allows is a peer that is fast because it is wrong. Where there are more sources than the limit \
         allows packets, nearly everything passes, and its way through the stack is what is measured.\n",
        live::BASE
    )?;
    let cases = live::cases(usize::MAX);
    for case in &cases {
        let of_case: Vec<&Flood> = results.floods.iter().filter(|flood| flood.case == case.name).collect();
        let Some(subject) = of_case.iter().find(|flood| flood.peer == LIMITED) else {
            continue;
        };
        writeln!(
            text,
            "### {}: at most {}/s each, {} bytes\n\n| | Mpps | passed, kpps | lost | shedder's limit / it |\n| --- | --- | --- | --- | --- |",
            case.name, case.limit.per_second, case.shape.length
        )?;
        for flood in &of_case {
            if let Some(error) = &flood.error {
                writeln!(text, "| {} | not measured: {} | | | |", flood.peer, one_line(error))?;
                continue;
            }
            let ratio = Spread::of_ratios(&subject.rates, &flood.rates);
            let lost = Spread::of(&flood.lost).map_or(0.0, |spread| spread.median);
            writeln!(
                text,
                "| {} | {} | {} | {:.1} % | {} |",
                flood.peer,
                spread(&flood.rates, 1e6, 2),
                spread(&flood.passed, 1e3, 1),
                100.0 * lost,
                ratio.map_or("-".into(), |ratio| format!("{:.2}", ratio.median)),
            )?;
        }
        writeln!(text)?;
    }
    near_bare(text, results)?;
    writeln!(text, "![Million frames a second by sources]({folder}/floods.svg)\n")
}

fn near_bare(text: &mut String, results: &Results) -> std::fmt::Result {
    let Some(bare) = results.near_bare.iter().find(|flood| flood.peer == BARE) else { return Ok(()) };
    writeln!(
        text,
        "### In short turns, {}: at most {}/s each, {} bytes\n\n\
         What differs by a few nanoseconds a frame, in turns of some 30 ms. The two designs are the least that programs can \
         do: they look at a word and at the type of the frame (a kill spares ARP), or at the one line of memory that a source has in a \
         table as large as shedder's; they count, and drop.\n\n\
         | | Mpps | / bare |\n| --- | --- | --- |",
        NEAR_BARE.name, NEAR_BARE.limit.per_second, NEAR_BARE.shape.length
    )?;
    for flood in &results.near_bare {
        let ratio = Spread::of_ratios(&flood.rates, &bare.rates);
        writeln!(
            text,
            "| {} | {} | {} |",
            flood.peer,
            spread(&flood.rates, 1e6, 2),
            ratio.map_or("-".into(), |ratio| format!("{:.1} %", 100.0 * ratio.median)),
        )?;
    }
    writeln!(text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

fn kills(text: &mut String, results: &Results, folder: &str) -> std::fmt::Result {
    if results.stops.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## Kill\n\n\
         From the start of the command, its process included, to the last packet that the server's socket was given, by the kernel's stamp \
         on it, under a flow of 20,000 packets a second. The last lines are the way back, under a kill until the first packet passes, and what \
         any command takes: a process that does nothing, until it has ended.\n\n\
         | | times | median, ms | 90 % | most |\n| --- | --- | --- | --- | --- |"
    )?;
    for stop in &results.stops {
        if let Some(error) = &stop.error {
            writeln!(
                text,
                "| {} | {} | not measured: {} | | |",
                stop.way,
                stop.milliseconds.len(),
                one_line(error)
            )?;
            continue;
        }
        let show = |q| at(&stop.milliseconds, q).map_or("-".into(), |it| format!("{it:.2}"));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            stop.way,
            stop.milliseconds.len(),
            show(0.5),
            show(0.9),
            show(1.0)
        )?;
    }
    writeln!(text, "\n![Each kill]({folder}/kills.svg)\n")
}

fn control(text: &mut String, results: &Results) -> std::fmt::Result {
    let Some(control) = &results.control else { return Ok(()) };
    writeln!(
        text,
        "## What the daemon takes\n\n\
         CPU time of the whole daemon, for each turn of its loop.\n\n\
         | interval | | us a turn | of one core | resident, MiB |\n| --- | --- | --- | --- | --- |"
    )?;
    for turn in &control.turns {
        writeln!(
            text,
            "| {} ms | {} | {:.0} | {:.2} % | {:.1} |",
            turn.interval_ms,
            turn.load,
            turn.microseconds,
            100.0 * turn.share(),
            turn.resident_kib as f64 / 1024.0
        )?;
    }
    let scrape = &control.scrape;
    writeln!(
        text,
        "\nFrom start to ready: {} ms. `shedder attach`: {} ms. A scrape with {} services (as many as there can be): {} samples, {} KiB, {} ms \
         until the client has it, {:.2} ms of the daemon's CPU time.\n",
        spread(&control.ready, 1.0, 0),
        spread(&control.attach, 1.0, 0),
        scrape.services,
        scrape.samples,
        scrape.bytes / 1024,
        spread(&scrape.milliseconds, 1.0, 1),
        scrape.cpu,
    )
}

fn accuracy(text: &mut String, results: &Results) -> std::fmt::Result {
    if results.admissions.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## Accuracy at the limit\n\n\
         One source, far past its limit, with the clock that the configuration chooses. Ideal: the limit times the time, and the burst.\n\n\
         | limit, packets/s | CPUs | admitted | ideal | off by |\n| --- | --- | --- | --- | --- |"
    )?;
    for it in &results.admissions {
        writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:+.2} % |",
            it.per_second,
            it.cpus,
            it.admitted,
            it.ideal,
            100.0 * it.error()
        )?;
    }
    writeln!(
        text,
        "\nA thousand sources that send half of their limit of 100 a second, among others that send as fast as they can. With a table that is \
         far too small, who finds no place shares one bucket, and is counted.\n\n\
         | among | table | sent | dropped | | charges without a place | others passed, of |\n\
         | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for it in &results.bystanders {
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.4} % | {} | {} of {} |",
            it.among,
            it.table,
            it.sent,
            it.dropped,
            100.0 * it.dropped_share(),
            it.no_place,
            it.others_passed,
            it.others
        )?;
    }
    writeln!(text)
}

fn scale(text: &mut String, results: &Results) -> std::fmt::Result {
    let it = &results.demand;
    let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    writeln!(
        text,
        "## On larger machines\n\n\
         Computed, not measured. {} Gbit/s of the smallest frames are {:.0} million a second; {} cores, each with a queue, have {:.0} ns for \
         each. A flood of sources that do not exist, at a limit of {} packets a second, keeps {:.2} million of them alive, each for as long as one \
         packet takes.\n\n\
         | what | bytes |\n| --- | --- |\n\
         | counters of one interface, on one core | {} |\n\
         | counters of all interfaces, all cores | {} |\n\
         | offered work by priority, {} services, all cores | {} |\n\
         | measured answers, {} services, all cores | {} |\n\
         | flows whose requests are measured | {} |\n\
         | words of the loops and of people | {} |\n\
         | read from the kernel by a scrape, one interface | {} |\n",
        it.gigabits,
        it.frames / 1e6,
        it.cores,
        it.budget,
        it.per_second,
        it.live / 1e6,
        it.counters_each,
        mib(it.counters),
        shedder_common::abi::MAX_SERVICES,
        mib(it.offered),
        shedder_common::abi::MAX_SERVICES,
        mib(it.measured),
        mib(it.flows),
        mib(it.control),
        mib(it.scrape),
    )?;
    writeln!(
        text,
        "Sources that find no place, of those alive, in a table of 8-way sets: simulated with the programs' own hash and buckets, and by \
         the formula for sources that fall into sets at random.\n\n\
         | table | alive | simulated | computed |\n| --- | --- | --- | --- |"
    )?;
    for it in &results.occupancies {
        writeln!(
            text,
            "| {} | {} | {:.4} % | {:.4} % |",
            u64::from(it.sets) * 8,
            it.live,
            100.0 * it.simulated,
            100.0 * it.computed
        )?;
    }
    Ok(())
}
