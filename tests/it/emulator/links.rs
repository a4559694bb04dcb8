//! Links and bodies on the wire (contract §5).

use std::io::Read as _;

use citrix_emulator::{LinkBase, Links, Options};
use serde_json::{Value, json};

use super::{Lab, header, json, lab, lab_with};

async fn linking(links: Links) -> Lab {
    lab_with(Options {
        links,
        ..Options::default()
    })
    .await
}

/// Starts a job and returns its `Location`.
async fn job(lab: &Lab) -> String {
    let start = lab
        .post("/cvad/manage/Machines/m/$reboot?async=true")
        .header("content-length", "0");
    header(&start.send().await.unwrap(), "location")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn link_base_origin_begins_links() {
    let europe = "https://api-eu.cloud.com";
    let lab = linking(Links {
        base: LinkBase::Origin(europe.to_owned()),
        ..Links::default()
    })
    .await;
    let page = lab.get_json("/monitorodata/Machines?$top=1500").await;
    let monitor = format!("{europe}/monitorodata");
    assert_eq!(
        page["@odata.nextLink"],
        format!("{monitor}/Machines?$top=500&$skip=1000")
    );
    assert_eq!(
        page["@odata.context"],
        format!("{monitor}/$metadata#Machines")
    );
    let location = job(&lab).await;
    let path = location.strip_prefix(europe).unwrap();
    for _ in 0..2 {
        assert_eq!(lab.get_json(path).await["ResultLocation"], Value::Null);
    }
    assert_eq!(
        lab.get_json(path).await["ResultLocation"],
        format!("{location}/results")
    );
    let results = lab.get(&format!("{path}/results")).send().await.unwrap();
    assert_eq!(
        header(&results, "location"),
        Some("https://api-eu.cloud.com/cvad/manage/Machines/m")
    );
}

#[tokio::test]
async fn link_base_called_uses_request_host() {
    let lab = linking(Links {
        base: LinkBase::Called,
        ..Links::default()
    })
    .await;
    let response = lab
        .get("/monitorodata/Machines")
        .header("host", "api-us.cloud.com")
        .send()
        .await
        .unwrap();
    let link = json(response).await["@odata.nextLink"].clone();
    assert_eq!(
        link,
        "http://api-us.cloud.com/monitorodata/Machines?$skip=1000"
    );
}

#[tokio::test]
async fn relative_links_option_applies_to_monitor() {
    let lab = linking(Links {
        relative: true,
        ..Links::default()
    })
    .await;
    let page = lab.get_json("/monitorodata/Machines").await;
    assert_eq!(page["@odata.nextLink"], "Machines?$skip=1000");
    assert_eq!(page["@odata.context"], "$metadata#Machines");
    assert!(job(&lab).await.starts_with(&lab.url("/cvad/")));
}

#[tokio::test]
async fn escaped_slashes_option_escapes_json() {
    let lab = linking(Links {
        escaped: true,
        ..Links::default()
    })
    .await;
    let body = lab
        .get("/monitorodata/Machines")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(body.contains(r"\/monitorodata\/Machines?$skip=1000"));
    assert!(body.replace(r"\/", "").find('/').is_none());
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        page["@odata.nextLink"],
        lab.url("/monitorodata/Machines?$skip=1000")
    );
}

#[tokio::test]
async fn accept_encoding_selects_content_coding() {
    let lab = lab().await;
    let plain = lab.get_json("/monitorodata/Machines").await;
    for coding in ["gzip", "br", "deflate"] {
        let request = lab
            .get("/monitorodata/Machines")
            .header("accept-encoding", coding);
        let response = request.send().await.unwrap();
        assert_eq!(
            (
                header(&response, "content-encoding"),
                header(&response, "content-length")
            ),
            (Some(coding), None)
        );
        let (encoded, mut decoded) = (response.bytes().await.unwrap(), String::new());
        match coding {
            "gzip" => flate2::read::GzDecoder::new(&encoded[..]).read_to_string(&mut decoded),
            "br" => brotli::Decompressor::new(&encoded[..], 4096).read_to_string(&mut decoded),
            _ => flate2::read::ZlibDecoder::new(&encoded[..]).read_to_string(&mut decoded),
        }
        .unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&decoded).unwrap(),
            plain,
            "{coding}"
        );
    }
    // An encoded response also releases the slot.
    assert_eq!(lab.emulator.stats().monitor_rate_limited, 0);

    let lab = lab_with(Options {
        compress: false,
        ..Options::default()
    })
    .await;
    let response = lab
        .get("/monitorodata/Machines")
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "content-encoding"), None);
}

#[tokio::test]
async fn machine_bytes_sets_size_of_page() {
    let lab = lab_with(Options {
        machine_bytes: 7230,
        ..Options::default()
    })
    .await;
    let response = lab
        .get("/cvad/manage/Machines?limit=1000")
        .send()
        .await
        .unwrap();
    let length: usize = header(&response, "content-length")
        .unwrap()
        .parse()
        .unwrap();
    assert!((7_200_000..7_400_000).contains(&length), "{length}");
    let machine = &json(response).await["Items"][999];
    assert!(
        machine["Description"]
            .as_str()
            .unwrap()
            .contains("https://api.cloud.com/cvad/manage/Machines")
    );
    assert_eq!(machine["Uid"], json!(1000));
}
