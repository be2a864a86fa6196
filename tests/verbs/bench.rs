//! `slalom bench`.

use serde_json::{Value, json};

use crate::person::Person;

/// Small, so that it cannot rot: one look at the smallest shapes.
#[test]
fn bench_tells_of_each_shape_its_time_and_its_share_of_the_peak() {
    let person = Person::new();
    let said = person.types("bench --shapes 8,8,5 16/4/3 --validations 8 --seconds 0 --output json").ends(0);
    let lines = said.json_lines();
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["core", "step", "step", "validation"]);
    let above_zero = |line: &Value, fields: &[&str]| {
        for field in fields {
            assert!(line[field].as_f64().is_some_and(|value| value > 0.0), "{field} in {line}");
        }
    };
    assert!(lines[0]["isa"].is_string());
    above_zero(&lines[0], &["peak_gflops"]);
    for (line, shape) in lines[1..3].iter().zip([[8, 8, 5], [16, 4, 3]]) {
        let [nodes, batch_size, unrollings] = shape.map(f64::from);
        assert_eq!(
            ["nodes", "batch_size", "unrollings"].map(|size| &line[size]),
            shape.map(|size| json!(size)).each_ref()
        );
        above_zero(line, &["median_us", "characters_per_second", "gflops", "share_of_peak", "peak_gflops"]);
        let seconds = line["median_us"].as_f64().expect("a number") / 1e6;
        let flops = unrollings * batch_size * (24.0 * nodes * nodes + 162.0 * nodes);
        let counted = line["gflops"].as_f64().expect("a number") * 1e9 * seconds;
        assert!((counted / flops - 1.0).abs() < 1e-9, "{counted} FLOP in {line}");
    }
    assert_eq!(lines[3]["nodes"], 8);
    above_zero(&lines[3], &["median_us", "products_us", "over_products", "products_gflops"]);

    let table = person.types("bench --shapes 8,8,5 --seconds 0").ends(0).stdout();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "a head, a blank line, the headings and a row:\n{table}");
    assert!(lines[0].contains(" GFLOP/s at its peak") && lines[3].starts_with("8\t8\t5\t"), "{table}");
    let only = person.types("bench --validations 16 --seconds 0 --output quiet").ends(0);
    assert_eq!(only.stdout(), "");
}

#[test]
fn bench_fits_what_a_core_takes_to_what_it_timed() {
    let person = Person::new();
    let lines = person.types("bench --fit --seconds 0.2 --output json").ends(0).json_lines();
    let (cost, probes) = lines.split_last().expect("lines");
    let term = |name: &str| cost[name].as_f64().expect("a number");
    assert_eq!(cost["kind"], "cost");
    assert!(!probes.is_empty() && probes.iter().all(|probe| probe["kind"] == "probe"), "{lines:?}");
    for probe in probes.iter().filter(|probe| !probe["batch_size"].is_null()) {
        let size = |name: &str| probe[name].as_f64().expect("a number");
        let (nodes, rows) = (size("nodes"), size("batch_size") * size("unrollings"));
        let columns = (nodes / 16.0).ceil() * 16.0;
        let seconds = term("step")
            + term("time_step") * size("unrollings")
            + term("activation") * rows * columns
            + term("product") * rows * nodes * columns
            + term("update") * nodes * columns;
        assert!((seconds * 1e6 / size("fitted_us") - 1.0).abs() < 1e-9, "{seconds} s for {probe}");
    }
    let table = person.types("bench --fit --seconds 0.2").ends(0).stdout();
    assert!(table.contains("REFERENCE") && table.contains("\n    character_product: "), "{table}");
}
