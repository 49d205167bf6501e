//! Reads what a report shows out of a run.

use std::collections::BTreeMap;

use masktas_devices::{Outcome, Parity, Row, Steadiness};
use masktas_runtime::Verdict;

use super::data::{
    ComponentRow, Curve, Fact, FinalistRow, FrontRow, LatencySection, Line, MeasuredRow, Notice, ParityRow,
    ReportData, Step, TrialPoint,
};
use crate::budget::{Interval, Kind, Limit};
use crate::error::Result;
use crate::front::{Pick, Point, pick};
use crate::images::Summary;
use crate::pipeline::{
    Across, Candidate, Finalist, LatencyReport, PROFILE_FROM, SUPERNET_FROM, across, candidates, finalists,
    latency_document, profiled,
};
use crate::run::{Phase, Run, document};
use crate::score::Component;
use crate::space::Space;
use crate::teacher::TaughtBy;

/// The cost a run's front is drawn over: what its search decided, or would decide by its recipe.
///
/// # Errors
/// When the run's records cannot be read.
pub fn axis(run: &Run) -> Result<Kind> {
    let intervals: Option<Vec<Interval>> = run.get_doc(document::INTERVALS)?;
    if let Some(first) = intervals.and_then(|all| all.first().map(|interval| interval.kind)) {
        return Ok(first);
    }
    Ok(Limit::all(&run.manifest().recipe.budget)?.first().map_or(Kind::Latency, |limit| limit.kind))
}

/// Everything a report shows.
///
/// # Errors
/// When the run's records cannot be read.
pub fn collect(run: &Run) -> Result<ReportData> {
    let manifest = run.manifest();
    let recipe = &manifest.recipe;
    let axis = axis(run)?;
    let limits = Limit::all(&recipe.budget)?;
    let front = candidates(run)?;
    let marks = marks(&front);
    let mark = |id: &str| marks.get(id).cloned().unwrap_or_default();
    let finalists = finalists(run)?;
    let summary: Option<Summary> = run.get_doc(document::IMAGES)?;
    let teacher = TaughtBy::of(run)?;
    let trials = run.scored()?;
    let values = |components: &[Component]| components.iter().map(|c| c.value).collect();
    let on_front = |id: &str| front.iter().any(|member| member.id == id);

    let mut data = ReportData {
        title: run
            .folder()
            .file_name()
            .map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned()),
        version: manifest.version.clone(),
        teacher: teacher.clone(),
        summary: Vec::new(),
        notices: Vec::new(),
        target: recipe.latency.target.clone(),
        prior: recipe.latency.prior,
        cost_name: cost_name(axis, recipe.latency.prior).to_owned(),
        limit: limits.iter().find(|limit| limit.kind == axis).map(|limit| limit.most),
        trials: trials
            .iter()
            .map(|trial| TrialPoint {
                id: trial.id.clone(),
                score: trial.score,
                cost: trial.cost,
                components: values(&trial.components),
                on_front: on_front(&trial.id),
            })
            .collect(),
        references: run.references()?.iter().map(|reference| values(&reference.components)).collect(),
        front: front.iter().map(|member| front_row(member, mark(&member.id))).collect(),
        latency: latency(run, &finalists)?,
        finalists: finalists.iter().map(|one| finalist_row(one, mark(&one.candidate.id))).collect(),
        across: across(run)?,
        engines: engines(&finalists),
        curves: curves(run)?,
        search: search_facts(run, summary.as_ref(), teacher.as_ref(), &limits)?,
        machine: Vec::new(),
        skipped: summary
            .iter()
            .flat_map(|summary| &summary.skipped)
            .map(|skipped| fact(&skipped.path, skipped.reason.clone()))
            .collect(),
        recipe: recipe.to_toml()?,
        next: Vec::new(),
    };
    data.machine = machine_facts(run, &finalists)?;
    data.notices = notices(run, &data)?;
    data.summary = story(run, &data, summary.as_ref(), axis, &limits)?;
    data.next = next(run, &data)?;
    Ok(data)
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact { name: name.to_owned(), value: value.into() }
}

fn cost_name(axis: Kind, prior: bool) -> &'static str {
    match axis {
        Kind::Latency if prior => "latency by prior, not measured (ms)",
        Kind::Latency => "predicted latency (ms)",
        Kind::Params => "parameters",
        Kind::Flops => "FLOPs of one image",
    }
}

/// The words knee, best and fastest, by id.
fn marks(front: &[Candidate]) -> BTreeMap<String, String> {
    let members: Vec<(String, Point)> = front.iter().map(|one| (one.id.clone(), one.point())).collect();
    let mut marks: BTreeMap<String, String> = BTreeMap::new();
    for (word, which) in [("knee", Pick::Knee), ("best", Pick::Best), ("fastest", Pick::Fastest)] {
        let found = pick(&members, &which).ok().and_then(|at| members.get(at));
        if let Some((id, _)) = found {
            let mark = marks.entry(id.clone()).or_default();
            mark.push_str(if mark.is_empty() { "" } else { ", " });
            mark.push_str(word);
        }
    }
    marks
}

fn front_row(member: &Candidate, mark: String) -> FrontRow {
    let component = |c: &Component| ComponentRow {
        name: c.name.clone(),
        value: c.value,
        error: c.error,
        higher_is_better: c.higher_is_better,
    };
    FrontRow {
        id: member.id.clone(),
        mark,
        score: member.score,
        cost: member.cost,
        parameters: member.parameters,
        flops: member.flops,
        components: member.components.iter().map(component).collect(),
    }
}

fn finalist_row(one: &Finalist, mark: String) -> FinalistRow {
    let measured = one.measured.iter().map(|m| MeasuredRow {
        engine: m.engine.clone(),
        ms: m.ms,
        half_width: m.half_width,
        p90_ms: m.p90_ms,
        mad_ms: m.mad_ms,
        n: m.n,
        verdict: m.verdict.to_string(),
        millijoules: m.energy.as_ref().map(|energy| energy.millijoules),
        notes: m.notes.clone(),
    });
    let file =
        one.files.model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    FinalistRow {
        id: one.candidate.id.clone(),
        mark,
        score: one.candidate.score,
        arch: one.arch.clone(),
        parameters: one.candidate.parameters,
        file,
        bytes: one.files.bytes,
        predicted: one.predicted.as_ref().map(|p| [p.ms, p.low, p.high]),
        extrapolated: one.predicted.as_ref().is_some_and(|p| p.extrapolated),
        measured: measured.collect(),
        parity: parity_rows(&one.parity),
        there: one.there.as_ref().map(parity_rows).unwrap_or_default(),
        verdict: one.verdict().to_string(),
    }
}

fn parity_rows(parity: &Parity) -> Vec<ParityRow> {
    let row = |row: &masktas_devices::ParityRow| ParityRow {
        engine: row.engine.clone(),
        version: row.version.clone().unwrap_or_else(|| "not found".into()),
        provider: row.provider.clone().unwrap_or_default(),
        difference: row.difference,
        verdict: row.verdict.to_string(),
        error: row.error.clone(),
    };
    parity.rows.iter().map(row).collect()
}

fn engines(finalists: &[Finalist]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in finalists.iter().flat_map(|one| &one.parity.rows) {
        if !names.contains(&row.engine) {
            names.push(row.engine.clone());
        }
    }
    names
}

fn latency(run: &Run, finalists: &[Finalist]) -> Result<Vec<LatencySection>> {
    let mut sections = Vec::new();
    for (at, engine) in run.manifest().recipe.latency.engines.iter().enumerate() {
        let Some(report) = run.get_doc::<LatencyReport>(&latency_document(engine))? else { continue };
        let rows = profiled(run, engine)?;
        let first = rows.iter().find_map(Row::measurement);
        let how = first.map_or_else(String::new, |m| {
            format!(
                "{} {}, provider {}, {} thread{}, protocol {}",
                m.engine,
                m.engine_version,
                m.provider,
                m.threads,
                if m.threads == 1 { "" } else { "s" },
                m.protocol
            )
        });
        let noisy =
            rows.iter().filter_map(Row::measurement).filter(|m| m.verdict != Steadiness::Steady).count();
        let failed = rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed(_))).count();
        // Predictions of finalists are those of the first engine.
        let fresh = finalists.iter().filter(|_| at == 0).filter_map(|one| {
            let measured = one.measured.iter().find(|m| m.engine == *engine)?;
            Some((one.candidate.id.clone(), measured.ms, one.predicted.as_ref()?.ms))
        });
        sections.push(LatencySection {
            engine: engine.clone(),
            how,
            method: report.how,
            held_out: report.held_out.n,
            mape: report.held_out.mape,
            within_10: report.held_out.within_10,
            coverage: report.held_out.coverage,
            spearman: report.held_out.spearman,
            failed,
            noisy,
            fitted: report.rows,
            fresh: fresh.collect(),
        });
    }
    Ok(sections)
}

fn curves(run: &Run) -> Result<Vec<Curve>> {
    let mut curves = Vec::new();
    for name in run.curve_names()? {
        let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for row in run.curve(&name)? {
            lines.entry(row.name).or_default().push((row.step as f64, row.value));
        }
        let lines = lines.into_iter().map(|(name, points)| Line { name, points }).collect();
        curves.push(Curve { name, lines });
    }
    // Teacher before supernet, as it was.
    curves.sort_by_key(|curve| curve.name != "teacher");
    Ok(curves)
}

fn search_facts(
    run: &Run,
    summary: Option<&Summary>,
    teacher: Option<&TaughtBy>,
    limits: &[Limit],
) -> Result<Vec<Fact>> {
    let recipe = &run.manifest().recipe;
    let mut facts = vec![
        fact("recipe", recipe.recipe.clone()),
        fact("space", recipe.space.name.clone()),
        fact("device", recipe.latency.target.clone()),
    ];
    if let Some(summary) = summary {
        let Summary { images, train, val, test, .. } = summary;
        facts.push(fact("images", format!("{} ({})", source(summary), summary.kind)));
        facts.push(fact("identity", summary.source_sha.clone()));
        facts.push(fact("split", format!("{images} images: {train} train, {val} score, {test} test")));
        facts.push(fact("skipped files", summary.skipped.len().to_string()));
        facts.push(fact("copies not used", summary.duplicates.len().to_string()));
    }
    if let Some(teacher) = teacher {
        let labels = teacher.doubt().unwrap_or("teacher saw no label");
        facts.push(fact("teacher", format!("{}; {labels}", teacher.name)));
    }
    facts.push(fact("seed", recipe.seed.to_string()));
    let limits: Vec<String> = limits.iter().map(ToString::to_string).collect();
    facts.push(fact("budget", if limits.is_empty() { "none".to_owned() } else { limits.join(", ") }));
    for interval in run.get_doc::<Vec<Interval>>(document::INTERVALS)?.unwrap_or_default() {
        let range = format!("{} to {}", interval.kind.show(interval.low), interval.kind.show(interval.high));
        facts.push(fact(&format!("{} in this space", interval.kind.key()), range));
    }
    let seconds = run.trial_seconds()?;
    if !seconds.is_empty() {
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let sum: f64 = seconds.iter().sum();
        facts.push(fact(
            "scoring",
            format!("{} architectures in {sum:.0} s, median {median:.3} s", seconds.len()),
        ));
    }
    let overrides = &run.manifest().overrides;
    if !overrides.is_empty() {
        facts.push(fact("overrides", overrides.join("  ")));
    }
    Ok(facts)
}

fn machine_facts(run: &Run, finalists: &[Finalist]) -> Result<Vec<Fact>> {
    let mut facts = vec![fact("masktas", run.manifest().version.clone())];
    facts.extend(run.manifest().machine.iter().map(|(name, value)| fact(name, value.clone())));
    let mut first = finalists.iter().flat_map(|one| &one.measured).next().cloned();
    if first.is_none() {
        for engine in &run.manifest().recipe.latency.engines {
            let rows = profiled(run, engine)?;
            first = first.or_else(|| rows.iter().find_map(Row::measurement).cloned());
        }
    }
    if let Some(m) = first {
        facts.push(fact("timed on", m.fingerprint.line()));
        facts.push(fact("fingerprint", m.fingerprint.key()));
        let state = |s: &masktas_devices::State| {
            let load = s.load_1m.map(|load| format!("load {load:.2}"));
            let heat = s.temperature_c.map(|degrees| format!("{degrees:.0} degrees Celsius"));
            let parts: Vec<String> = load.into_iter().chain(heat).collect();
            if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") }
        };
        facts.push(fact("state before", state(&m.fingerprint.state)));
        facts.push(fact("state after", state(&m.after)));
    }
    for row in finalists.first().iter().flat_map(|one| &one.parity.rows) {
        if let Some(version) = &row.version {
            facts.push(fact(&row.engine, version.clone()));
        }
    }
    Ok(facts)
}

fn notices(run: &Run, data: &ReportData) -> Result<Vec<Notice>> {
    let notice = |level: &str, text: String| Notice { level: level.to_owned(), text };
    let mut notices = Vec::new();
    let failed: Vec<&str> =
        data.finalists.iter().filter(|one| one.verdict == "fail").map(|one| one.id.as_str()).collect();
    if !failed.is_empty() {
        let text = format!("Parity fails for {}: not every engine gives the same answer.", failed.join(", "));
        notices.push(notice("fail", text));
    }
    if !run.is_done(Phase::Finalists)? {
        notices
            .push(notice("warn", "This search is not finished; the report shows what there is.".to_owned()));
    }
    if data.prior {
        let text = format!(
            "Every millisecond here is a prior of the catalogue for {}, not measured. It says which networks are likely to be \
             faster, and proves no latency.",
            data.target
        );
        notices.push(notice("warn", text));
    }
    let noisy: usize = data.latency.iter().map(|section| section.noisy).sum();
    if noisy > 0 {
        let total: usize = data.latency.iter().map(|section| section.fitted.len()).sum();
        let text = format!(
            "{noisy} of {total} profile measurements did not settle: the device was busy, or slowed itself down."
        );
        notices.push(notice("warn", text));
    }
    Ok(notices)
}

/// Where the images came from.
fn source(summary: &Summary) -> String {
    match summary.kind.as_str() {
        "embedded" => "the photographs that come with masktas".to_owned(),
        _ => summary.origin.clone(),
    }
}

/// A number of architectures: small ones as they are, large ones in words of thousands.
fn many(count: u128) -> String {
    let scales = [(1e12, "million million"), (1e9, "thousand million"), (1e6, "million")];
    let value = count as f64;
    match scales.iter().find(|(scale, _)| value >= *scale) {
        Some((scale, word)) if value < 1e15 => format!("{:.0} {word}", value / scale),
        Some(_) => format!("{value:.1e}"),
        None => count.to_string(),
    }
}

/// What happened, for somebody who did not watch.
fn story(
    run: &Run,
    data: &ReportData,
    summary: Option<&Summary>,
    axis: Kind,
    limits: &[Limit],
) -> Result<Vec<String>> {
    let recipe = &run.manifest().recipe;
    let space = run.manifest().vit_space()?;
    let mut story = Vec::new();
    // The images' own labels are never read, but a teacher can have brought in those of others.
    let label_free = data.teacher.as_ref().is_some_and(TaughtBy::label_free);
    let images = summary.map_or_else(String::new, |summary| {
        format!(
            " A supernet learned from {} {}images ({}); {} others rated the candidates; {} were kept aside for the end.",
            summary.train,
            if label_free { "unlabelled " } else { "" },
            source(summary),
            summary.val,
            summary.test
        )
    });
    story.push(format!(
        "{} of the {} architectures of the space {} were scored{}.{images}",
        data.trials.len(),
        many(space.count()),
        space.name(),
        if label_free { " without labels" } else { "" }
    ));
    let budget: Vec<String> = limits.iter().map(|limit| limit.kind.show(limit.most)).collect();
    if budget.is_empty() {
        story.push("There was no budget: the front spans what the space can do.".to_owned());
    } else {
        story.push(format!("The budget was at most {}.", budget.join(" and ")));
    }
    if let Some(section) = data.latency.first() {
        story.push(format!(
            "Latency on {} under {} is predicted with a held-out error of {:.1} % (mean, n = {}); {:.0} % of held-out \
             predictions lie within 10 %.",
            recipe.latency.target,
            section.engine,
            100.0 * section.mape,
            section.held_out,
            100.0 * section.within_10
        ));
    }
    if let Some(from) = run.get_doc::<std::path::PathBuf>(PROFILE_FROM)? {
        story.push(format!("Latency was taken over from {}.", from.display()));
    }
    if let Some(from) = run.get_doc::<std::path::PathBuf>(SUPERNET_FROM)? {
        story.push(format!("The supernet was taken over from {}.", from.display()));
    }
    story.extend(data.across.iter().filter_map(at_home));
    for one in &run.manifest().further {
        story.push(format!(
            "The same supernet was searched for {}: see {}.",
            one.target(),
            run.target(one.target()).display()
        ));
    }
    let knee = data.front.iter().find(|member| member.mark.contains("knee"));
    if let Some(knee) = knee {
        let measured =
            data.finalists.iter().find(|one| one.id == knee.id).and_then(|one| one.measured.first());
        let measured =
            measured.map_or_else(String::new, |m| format!(", measured {:.3} ms in {}", m.ms, m.engine));
        story.push(format!(
            "{} architectures are on the front. Its knee, {}, scores {:.3} at {}{}{measured}.",
            data.front.len(),
            knee.id,
            knee.score,
            axis.show(knee.cost),
            if data.prior && axis == Kind::Latency { " (prior, not measured)" } else { "" }
        ));
    }
    if !data.finalists.is_empty() {
        let worst = data.finalists.iter().map(|one| match one.verdict.as_str() {
            "pass" => Verdict::Pass,
            "warn" => Verdict::Warn,
            _ => Verdict::Fail,
        });
        let worst = worst.max().unwrap_or(Verdict::Fail);
        story.push(format!(
            "{} members were exported and replayed in {}: {worst}.",
            data.finalists.len(),
            data.engines.join(", ")
        ));
    }
    Ok(story)
}

/// Whether the front of a device is the better one there.
fn at_home(across: &Across) -> Option<String> {
    let (own, others) = across.fronts.split_first()?;
    let count = |number: usize, of: usize| format!("{number} of {of}");
    let others = others.iter().map(|other| {
        let beaten = count(other.beaten, other.members.len());
        format!("{beaten} finalists searched for {} are beaten (scored no lower, faster)", other.searched_for)
    });
    let others: Vec<String> = others.collect();
    Some(format!(
        "Measured on {}: {}; of its own {}.",
        across.target,
        others.join(", "),
        count(own.beaten, own.members.len())
    ))
}

fn next(run: &Run, data: &ReportData) -> Result<Vec<Step>> {
    let folder = run.folder().display();
    let step = |what: &str, command: String| Step { what: what.to_owned(), command };
    if !run.is_done(Phase::Finalists)? {
        return Ok(vec![step("go on with this search", format!("masktas search --resume {folder}"))]);
    }
    let mut steps = vec![step("write the knee as ONNX", format!("masktas export {folder} --pick knee"))];
    if let Some(one) = data.finalists.first() {
        let model = run.models().join(&one.file);
        steps.push(step(
            "run a finalist on a photograph",
            format!("masktas run {} photo.jpg", model.display()),
        ));
    }
    steps.push(step("judge the features, with labels", format!("masktas evaluate {folder}")));
    steps.push(step("train a classifier, with labels", format!("masktas finetune {folder} --pick knee")));
    Ok(steps)
}
