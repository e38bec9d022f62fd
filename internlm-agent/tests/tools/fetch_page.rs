//! `fetch_page` against local pages.

use std::time::{Duration, Instant};

use internlm_agent::fetch::{FetchConfig, Fetcher};
use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::web::{PageConfig, fetch_page};
use serde_json::{Value, json};

use crate::stand_in::{Answer, StandIn};

fn site() -> StandIn {
    StandIn::new(|asked| match asked.path() {
        "/page" => Answer::html(
            "<!doctype html><title>A page</title><nav><a href=/>home</a></nav>\
             <h1>Quantization</h1><p>See <a href='../paper?id=1'>the paper</a>.\
             <script>alert(1)</script><ul><li>one<li>two</ul>",
        ),
        "/gbk" => {
            // 数学 in GBK, which only the page itself says.
            let mut page = b"<html><meta charset=gb2312><p>".to_vec();
            page.extend([0xca, 0xfd, 0xd1, 0xa7]);
            Answer::new("text/html", page)
        }
        "/wiki/%E6%95%B0%E5%AD%A6" => Answer::new("text/plain; charset=utf-8", "数学"),
        "/data" => Answer::new("application/json", "{\"a\": 1}"),
        "/image" => Answer::new("image/png", b"\x89PNG".to_vec()),
        "/binary" => Answer::new("text/plain", vec![0, 1, 2]),
        "/plain" => Answer {
            status: 200,
            headers: Vec::new(),
            body: b" <HTML><p>no type".to_vec(),
        },
        "/report.pdf" => {
            let path = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/documents/report.pdf"
            );
            Answer::new("application/pdf", std::fs::read(path).unwrap())
        }
        "/long" => Answer::new("text/plain", "0123456789".repeat(1000)),
        "/deep" => Answer::html(&format!("{}end", "<div><ul><li>".repeat(50_000))),
        "/away" => Answer::new("text/plain", "")
            .with_status(302)
            .with_header("Location", "http://127.0.0.1:1/"),
        _ => Answer::html("<h1>Not here</h1><p>Try another.").with_status(404),
    })
}

fn read(site: &StandIn, arguments: Value) -> Result<String, ToolError> {
    let tool = fetch_page(PageConfig::default(), site.fetcher());
    Ok(tool.call(&arguments, &ToolContext::default())?.to_text())
}

#[test]
fn a_page_is_told_as_text() {
    let site = site();
    let address = site.address;
    let told = read(&site, json!({"url": site.url("/page")})).unwrap();
    let want = format!(
        "Title: A page\nAddress: http://{address}/page\n\n# Quantization\n\n\
         See [the paper](http://{address}/../paper?id=1).\n\n- one\n- two"
    );
    assert_eq!(told, want);
    for (path, want) in [
        ("/gbk", "数学"),
        ("/wiki/数学", "数学"),
        ("/data", "{\"a\": 1}"),
        ("/plain", "no type"),
    ] {
        let told = read(&site, json!({"url": site.url(path)})).unwrap();
        assert!(told.ends_with(&format!("\n\n{want}")), "{path}: {told}");
    }
}

#[test]
fn a_pdf_is_told_where_they_can_be_read() {
    let site = site();
    let told = read(&site, json!({"url": site.url("/report.pdf")}));
    match cfg!(feature = "documents") {
        true => assert!(
            told.unwrap()
                .contains("[page 2]\n今天天气很好，我们去公园。")
        ),
        false => assert!(told.unwrap_err().to_string().contains("a PDF")),
    }
    let fetcher = site.fetcher_with(FetchConfig::default().with_max_bytes(1000));
    let tool = fetch_page(PageConfig::default(), fetcher);
    let error = tool
        .call(
            &json!({"url": site.url("/report.pdf")}),
            &ToolContext::default(),
        )
        .unwrap_err();
    assert_eq!(
        matches!(error, ToolError::Limit { .. }),
        cfg!(feature = "documents"),
        "{error}"
    );
}

#[test]
fn a_long_page_is_told_in_parts() {
    let site = site();
    let ask = |start: usize| {
        let arguments = json!({"url": site.url("/long"), "start": start, "max_chars": 4000});
        read(&site, arguments).unwrap()
    };
    assert!(ask(0).ends_with("[of 10000 characters; go on with start=4000]"));
    assert_eq!(ask(8000), "0123456789".repeat(200));
}

#[test]
fn what_is_no_page_is_said() {
    let site = site();
    let error = |path: &str| {
        read(&site, json!({"url": site.url(path)}))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("/none"),
        format!(
            "`{}` answered with status 404: # Not here Try another.",
            site.address
        )
    );
    assert!(
        error("/image").contains("`image/png`"),
        "{}",
        error("/image")
    );
    assert!(error("/binary").contains("no text"), "{}", error("/binary"));
    for arguments in [
        json!({}),
        json!({"url": 7}),
        json!({"url": site.url("/page"), "max_chars": 0}),
        json!({"url": site.url("/page"), "start": -1}),
    ] {
        let error = read(&site, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    let error = read(&site, json!({"url": "file:///etc/passwd"})).unwrap_err();
    assert!(error.to_string().contains("http://"), "{error}");
    let error = read(&site, json!({"url": site.url("/page"), "start": 100_000})).unwrap_err();
    assert!(matches!(error, ToolError::Failed { .. }), "{error}");
}

#[test]
fn limits_hold() {
    let site = site();
    let fetcher = site.fetcher_with(FetchConfig::default().with_max_bytes(100));
    let tool = fetch_page(PageConfig::default(), fetcher);
    let told = tool
        .call(&json!({"url": site.url("/long")}), &ToolContext::default())
        .unwrap();
    let want = format!(
        "{}\n\n[the page is longer than what is read of one]",
        "0123456789".repeat(10)
    );
    assert!(told.to_text().ends_with(&want), "{}", told.to_text());

    let tool = fetch_page(PageConfig::default().with_max_chars(10), site.fetcher());
    let arguments = json!({"url": site.url("/long"), "max_chars": 4000});
    let told = tool
        .call(&arguments, &ToolContext::default())
        .unwrap()
        .to_text();
    assert!(
        told.ends_with("\n0123456789\n\n[of 10000 characters; go on with start=10]"),
        "{told}"
    );

    // 150,000 elements within each other.
    let told = read(&site, json!({"url": site.url("/deep")})).unwrap();
    assert!(told.trim_end().ends_with("- end"), "{told}");

    let mut context = ToolContext::default();
    context.deadline = Some(Instant::now() - Duration::from_secs(1));
    let error = tool.call(&arguments, &context).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error}");
}

#[test]
fn servers_of_this_machine_are_not_read() {
    let site = site();
    let error = read(&site, json!({"url": site.url("/away")})).unwrap_err();
    assert!(matches!(error, ToolError::Denied { .. }), "{error}");
    let tool = fetch_page(PageConfig::default(), Fetcher::new(FetchConfig::default()));
    for url in [
        site.url("/page"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let error = tool
            .call(&json!({"url": url}), &ToolContext::default())
            .unwrap_err();
        assert!(matches!(error, ToolError::Denied { .. }), "{url}: {error}");
    }
    assert_eq!(site.asked().len(), 1);
}
