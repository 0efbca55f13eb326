//! The benchmarks run to their end and measure everything that they promise; how fast anything is, is not tested here. The programs that
//! are compared carry the same bytes over good and bad links, whoever talks to whom.

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

/// Runs `hamn-bench-tunnel`; what it printed is shown with the test.
fn bench_tunnel(words: &[&str]) -> bool {
    let bench = hamn_e2e::binaries::binary("hamn-bench-tunnel").unwrap();
    let output = Command::new(bench).args(words).output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn the_quick_tunnel_benchmark_measures_everything() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tunnel.json");
    let good = bench_tunnel(&["--quick", "--only", "wireguard-go,stock,engine", "--json", file.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(good, "{:#?}", report["not_measured"]);
    for subject in ["no tunnel", "wireguard-go", "stock gotatun", "hamn engine", "hamn engine -> wireguard-go"] {
        let tests = report["main"][subject].as_object().unwrap();
        assert_eq!(tests.len(), 12, "{subject}");
        for (test, metrics) in tests {
            let measured = ["mbit_per_s", "kpps", "p99_us"].iter().any(|metric| metrics[metric]["median"].as_f64() > Some(0.0));
            let cost = metrics["rss_client_mib"]["median"].as_f64() > Some(0.0);
            assert!(measured && (cost || subject == "no tunnel"), "{subject}, {test}: {metrics}");
        }
        assert_eq!(report["segmented"][subject].as_object().unwrap().len(), 2, "{subject}");
    }
    // Floods included.
    for (test, metrics) in report["main"]["hamn engine"].as_object().unwrap() {
        let peak = ["rss_client_mib", "rss_gateway_mib"].map(|metric| metrics[metric]["max"].as_f64().unwrap());
        assert!(peak.iter().all(|mib| *mib <= 16.0), "{test}: {peak:?} MiB");
    }
    let idle = report["idle"].as_array().unwrap().iter().find(|row| row["subject"] == "hamn engine").unwrap();
    assert!(idle["wake_ups_per_s"].as_array().unwrap().iter().all(|count| count.as_f64().unwrap() <= 2.0), "{idle}");
    for row in report["peers"].as_array().unwrap() {
        assert_eq!((&row["peers"], &row["echoes"], &row["failed"]), (&1000.into(), &1000.into(), &0.into()), "{row}");
    }
    assert_eq!((report["peers"].as_array().unwrap().len(), report["targets"].as_array().unwrap().len()), (3, 18));
}

#[test]
fn the_same_bytes_arrive_whoever_talks_to_whom() {
    assert!(bench_tunnel(&["differential"]));
}

#[test]
fn forced_rekeys_at_full_rate_lose_nothing() {
    assert!(bench_tunnel(&["soak", "--minutes", "0.25"]));
}
