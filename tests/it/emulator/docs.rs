//! The manual documents every option, fault and counter.

use citrix_emulator::{EmulatorArgs, Fault, TokenFault};
use clap::{Args as _, ValueEnum as _};

use super::{json, lab};

const MANUAL: &str = include_str!("../../../docs/emulator.md");

#[test]
fn manual_names_every_option_and_fault() {
    let command = EmulatorArgs::augment_args(clap::Command::new("emulator"));
    for option in command
        .get_arguments()
        .filter_map(|option| option.get_long())
    {
        assert!(MANUAL.contains(&format!("--{option}")), "--{option}");
    }
    for fault in TokenFault::value_variants() {
        let name = fault.to_possible_value().unwrap();
        assert!(
            MANUAL.contains(&format!("`--token-fault {}`", name.get_name())),
            "{}",
            name.get_name()
        );
    }
    for (fault, _) in Fault::ALL {
        assert!(MANUAL.contains(&format!("`{fault}`")), "{fault}");
    }
}

#[tokio::test]
async fn manual_names_every_counter() {
    let lab = lab().await;
    lab.get_json("/monitorodata/Machines").await;
    let stats = json(
        lab.client
            .get(lab.url("/_emulator/stats"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    let acme = &stats["customers"]["acme"];
    for counters in [&stats, acme, &acme["services"]["monitor"]] {
        for name in counters.as_object().unwrap().keys() {
            assert!(MANUAL.contains(&format!("`{name}`")), "{name}");
        }
    }
}
