use masktas_export::{VitArch, VitBlock};

use super::*;
use crate::pipeline::{Across, OnDevice, Timed};
use crate::recipe::Labels;

fn sample() -> ReportData {
    let blocks = vec![
        VitBlock { heads: 3, hidden: 384 },
        VitBlock { heads: 2, hidden: 256 },
        VitBlock { heads: 4, hidden: 512 },
    ];
    let arch = VitArch { image: 32, patch: 4, embed: 128, head_dim: 32, blocks, relative: None };
    let component = |name: &str, value: f64, up: bool| ComponentRow {
        name: name.into(),
        value,
        error: value / 50.0,
        higher_is_better: up,
    };
    let member = |id: &str, mark: &str, score: f64, cost: f64| FrontRow {
        id: id.into(),
        mark: mark.into(),
        score,
        cost,
        parameters: 1_234_567,
        flops: 88_000_000,
        components: vec![
            component("relation", score * 0.9, true),
            component("reconstruction", 1.0 - score, false),
        ],
    };
    let front = vec![
        member("a-1", "fastest", 0.31, 0.9),
        member("b-2", "knee", 0.7, 1.2),
        member("c-3", "best", 0.84, 2.4),
    ];
    let mut trials: Vec<TrialPoint> = front
        .iter()
        .map(|one| TrialPoint {
            id: one.id.clone(),
            score: one.score,
            cost: one.cost,
            components: one.components.iter().map(|c| c.value).collect(),
            on_front: true,
        })
        .collect();
    trials.extend((0..60).map(|at| {
        let at = f64::from(at);
        let (score, cost) = (0.2 + 0.5 * (at * 0.37).sin().abs() * (at / 60.0), 1.0 + at / 40.0);
        TrialPoint {
            id: format!("t{at}"),
            score,
            cost,
            components: vec![score, 1.0 - score],
            on_front: false,
        }
    }));
    let parity = |engine: &str, difference: Option<f64>, verdict: &str| ParityRow {
        engine: engine.into(),
        version: "1.2.3".into(),
        provider: "CPU".into(),
        difference,
        verdict: verdict.into(),
        error: difference.is_none().then(|| "the <adapter> is missing".into()),
    };
    let measured = |engine: &str, ms: f64, steady: bool| MeasuredRow {
        engine: engine.into(),
        ms,
        half_width: 0.012,
        p90_ms: ms * 1.1,
        mad_ms: ms / 40.0,
        n: 40,
        verdict: if steady { "steady" } else { "noisy" }.into(),
        millijoules: steady.then_some(3.21),
        notes: if steady { vec![] } else { vec!["p95 is 1.62 times the median: the machine is busy".into()] },
    };
    ReportData {
        title: "shelf & <belt>".into(),
        version: "0.1.0".into(),
        teacher: Some(TaughtBy { name: "mae".into(), labels: Labels::None }),
        summary: vec!["63 of 1.7e7 architectures were scored.".into()],
        notices: vec![Notice { level: "warn".into(), text: "2 of 40 measurements did not settle.".into() }],
        target: "host".into(),
        prior: false,
        cost_name: "predicted latency (ms)".into(),
        limit: Some(2.5),
        references: (0..16).map(|at| vec![f64::from(at) / 20.0, 0.9 - f64::from(at) / 25.0]).collect(),
        latency: vec![LatencySection {
            engine: "ort".into(),
            how: "ort 1.31.1, provider CPU, 1 thread, protocol 0123456789abcdef".into(),
            method: Some("90 % interval 9 % wide; fitted to 48 measurements".into()),
            held_out: 12,
            mape: 0.031,
            within_10: 0.96,
            coverage: 0.9,
            spearman: Some(0.991),
            failed: 0,
            noisy: 2,
            fitted: (0..40)
                .map(|at| {
                    let ms = 0.8 + f64::from(at) / 20.0;
                    (format!("p{at}"), ms, ms * (1.0 + 0.06 * (f64::from(at) * 1.7).sin()))
                })
                .collect(),
            fresh: vec![("b-2".into(), 1.24, 1.2)],
        }],
        finalists: vec![FinalistRow {
            id: "b-2".into(),
            mark: "knee".into(),
            score: 0.7,
            arch,
            parameters: 1_234_567,
            file: "b-2.onnx".into(),
            bytes: 4_900_000,
            predicted: Some([1.2, 1.1, 1.3]),
            extrapolated: false,
            measured: vec![measured("ort", 1.24, true), measured("tract", 1.9, false)],
            parity: vec![
                parity("ort", Some(2.1e-7), "pass"),
                parity("tract", Some(4e-5), "warn"),
                parity("wgpu", None, "fail"),
            ],
            there: vec![parity("ort", Some(3.3e-7), "pass")],
            verdict: "fail".into(),
        }],
        across: vec![across("host", [0, 3]), across("pi5", [2, 0])],
        engines: vec!["ort".into(), "tract".into(), "wgpu".into()],
        curves: vec![
            Curve { name: "teacher".into(), lines: vec![Line { name: "pixel".into(), points: decay(1.0) }] },
            Curve {
                name: "supernet".into(),
                lines: ["feature", "in_place", "pixel", "relation"]
                    .iter()
                    .zip([0.9, 0.5, 1.1, 0.7])
                    .map(|(name, scale)| Line { name: (*name).into(), points: decay(scale) })
                    .collect(),
            },
        ],
        search: vec![Fact { name: "seed".into(), value: "0".into() }],
        machine: vec![Fact { name: "processor".into(), value: "a \"fast\" one".into() }],
        skipped: vec![Fact { name: "bad/<x>.jpg".into(), value: "is empty (0 bytes)".into() }],
        recipe: "seed = 0\n".into(),
        next: vec![Step {
            what: "write the knee as ONNX".into(),
            command: "masktas export runs/1 --pick knee".into(),
        }],
        front,
        trials,
    }
}

fn across(target: &str, beaten: [usize; 2]) -> Across {
    let front = |(at, searched_for): (usize, &str)| OnDevice {
        searched_for: searched_for.into(),
        members: (1..=4)
            .map(|member| Timed {
                id: format!("{searched_for}-{member}"),
                score: 0.2 * f64::from(member),
                ms: f64::from(member) + at as f64 / 4.0,
                half_width: 0.015,
                steady: member > 1,
            })
            .collect(),
        beaten: beaten[at],
    };
    Across {
        target: target.into(),
        engine: "ort".into(),
        fronts: ["host", "pi5"].into_iter().enumerate().map(front).collect(),
    }
}

fn decay(scale: f64) -> Vec<(f64, f64)> {
    (1..=80).map(|at| (f64::from(at) * 10.0, scale * (0.3 + 0.7 * (-f64::from(at) / 25.0).exp()))).collect()
}

fn empty() -> ReportData {
    ReportData {
        trials: vec![],
        references: vec![],
        front: vec![],
        latency: vec![],
        finalists: vec![],
        across: vec![],
        engines: vec![],
        curves: vec![],
        skipped: vec![],
        limit: None,
        ..sample()
    }
}

/// Walks the tags of a page: every opened one is closed in order, and every attribute is quoted.
fn well_formed(page: &str) -> std::result::Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    while let Some(start) = rest.find('<') {
        if let Some(style) = rest[..start].contains("\0").then_some(()) {
            return Err(format!("control character {style:?}"));
        }
        let end = start + rest[start..].find('>').ok_or("a tag without end")?;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(last) if last == name => {}
                last => return Err(format!("</{name}> closes {last:?}")),
            }
        } else if !tag.ends_with('/') {
            let name = tag.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
            open.push(name);
            if name == "style" {
                rest = &rest[rest.find("</style>").ok_or("style without end")?..];
            }
        }
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("odd quotes in <{tag}>"));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

#[test]
fn a_full_page_is_well_formed_and_shows_everything() {
    let page = render(&sample()).expect("it renders");
    assert_eq!(well_formed(&page), Ok(()));
    let sections: Vec<&str> =
        page.split("<section id=\"").skip(1).filter_map(|part| part.split('"').next()).collect();
    assert_eq!(
        sections,
        ["summary", "front", "finalists", "devices", "latency", "score", "training", "provenance", "next"]
    );
    // Front, finalist, two devices, scatter, residuals, components, two curves.
    assert_eq!(page.matches("<svg").count(), 9);
    for part in [
        "shelf &amp; &lt;belt&gt;",
        "<span class=\"mark\">knee</span>",
        "<td class=\"fail\">fail</td>",
        "the &lt;adapter&gt; is missing",
        "1.200 (1.100 to 1.300)",
        "1.240 ± 1.2 %",
        "Held-out error 3.1 % (mean, n = 12)",
        "&lt;x&gt;.jpg",
        "masktas export runs&#x2f;1 --pick knee",
        "p95 is 1.62 times the median",
        "2.1e-07",
        "<td>ort on host</td>",
        "3.3e-07",
        "searched for pi5: 3 of 4 beaten",
        "measured on pi5, ort",
        "1.250 ± 1.5 %",
        "3.21",
        "90 % interval 9 % wide; fitted to 48 measurements",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
}

#[test]
fn a_prior_is_called_one_wherever_milliseconds_stand() {
    let mut data = ReportData { prior: true, latency: vec![], target: "pi5".into(), ..sample() };
    data.cost_name = "latency by prior, not measured (ms)".into();
    for finalist in &mut data.finalists {
        finalist.measured.clear();
    }
    let page = render(&data).expect("it renders");
    assert_eq!(well_formed(&page), Ok(()));
    assert!(!page.contains("predicted ms"));
    for part in [
        "ms by prior, not measured",
        "foretold by a prior",
        "coarse figures for pi5",
        "1.200 (1.100 to 1.300)",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
}

/// Only a teacher that saw no label lets the page say label-free.
#[test]
fn a_page_is_as_label_free_as_its_teacher() {
    let page = |data: ReportData, teacher: Option<Labels>| {
        let teacher = teacher.map(|labels| TaughtBy { name: "file".into(), labels });
        render(&ReportData { teacher, ..data }).expect("it renders")
    };
    let sentences = ["teacher saw labels", "nobody says whether the teacher saw labels"];
    for data in [sample, empty] {
        let said = page(data(), Some(Labels::None));
        assert!(said.contains("label-free"));
        assert!(sentences.iter().all(|sentence| !said.contains(sentence)));
        for (labels, sentence) in [Labels::Used, Labels::Unknown].into_iter().zip(sentences) {
            let said = page(data(), Some(labels));
            assert_eq!(well_formed(&said), Ok(()));
            assert!(said.contains(&format!(">{sentence}<")), "{sentence}");
            assert!(!said.contains("label-free"), "{sentence}");
        }
        // Nobody knows the teacher yet.
        let said = page(data(), None);
        assert!(!said.contains("label-free") && sentences.iter().all(|sentence| !said.contains(sentence)));
    }
}

#[test]
fn the_page_needs_nothing_else() {
    let page = render(&sample()).expect("it renders");
    for word in ["<script", "<link", "<img", "@import", "url(", "src=", "href="] {
        assert!(!page.contains(word), "{word}");
    }
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
}

#[test]
fn a_search_that_has_just_begun_has_a_page_too() {
    let page = render(&empty()).expect("it renders");
    assert_eq!(well_formed(&page), Ok(()));
    assert!(page.contains("No architecture is scored yet") && page.contains("Nothing is trained yet"));
    assert_eq!(page.matches("<svg").count(), 0);
}

#[test]
fn the_checker_of_these_tests_finds_what_is_broken() {
    assert!(well_formed("<!DOCTYPE html><p><b></p></b>").is_err());
    assert!(well_formed("<!DOCTYPE html><p class=\"x></p>").is_err());
    assert!(well_formed("<!DOCTYPE html><p>").is_err());
}

/// The same data give the same page: nothing in it comes from a clock.
#[test]
fn a_page_depends_on_its_data_only() {
    assert_eq!(render(&sample()).expect("it renders"), render(&sample()).expect("it renders"));
}
