//! The benchmark runs to its end and measures everything that it promises; how fast anything is, is not tested here.

use serde_json::Value;
use std::process::Command;

#[test]
fn the_quick_benchmark_measures_everything() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bench.json");
    let bench = hamn_e2e::binaries::binary("hamn-bench").unwrap();
    let output = Command::new(bench).args(["--quick", "--json"]).arg(&file).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}\n{said}"));
    let report: Value = serde_json::from_str(&text).unwrap();

    // gotatun's own program is installed by `cargo xtask bench` only.
    let missing = report["not_measured"].as_array().unwrap().iter();
    let missing: Vec<_> = missing.filter(|item| !item["what"].as_str().unwrap().contains("gotatun")).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(report["connect"].as_array().unwrap().len(), 3, "{table}");
    for client in ["no tunnel", "Hamn", "wireguard-go"] {
        let rows = report["throughput"].as_array().unwrap().iter().filter(|row| row["client"] == client);
        assert_eq!(rows.filter(|row| row["mbit_per_s"].as_f64().unwrap() > 0.0).count(), 2, "{client}\n{table}");
        assert!(table.contains(&format!("| {client} |")), "{table}");
    }
    let all: [(&str, usize); 3] = [("firewall", 2), ("helper", 3), ("cli", 2)];
    for (part, rows) in all {
        assert_eq!(report[part].as_array().unwrap().len(), rows, "{part}\n{table}");
    }
    assert_eq!(report["list"]["servers"], 10_000);
    assert!(table.contains(&format!("on {} cores", report["cores"])), "{table}");
}
