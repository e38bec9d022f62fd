//! `query_table` and `query_json`.

use std::fmt::Write;

use internlm_agent::tool::{CancelToken, Tool, ToolContext, ToolError};
use internlm_agent::tools::Root;
use internlm_agent::tools::query::{QueryLimits, query_json, query_table};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{call, failure, limit, misfit, text};

const SALES: &str = "\
shop,product,price,count
北京,\"pen, red\",1.10,3
上海,ink,20,1
北京,ink,19.90,
上海,\"pen, red\",1.2,10
深圳,\"say \"\"hi\"\"\",n/a,2
";

fn limits() -> QueryLimits {
    QueryLimits::default()
}

fn place(files: &[(&str, &[u8])]) -> (TempDir, Root) {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(place.path().join(name), bytes).unwrap();
    }
    let root = Root::open(place.path()).unwrap();
    (place, root)
}

fn sales() -> (TempDir, Root) {
    let rows = r#"[
        {"id": 1, "name": "Ada", "address": {"city": "London"}, "tags": ["a", "b"], "score": 9.5},
        {"id": 2, "name": "小明", "address": {"city": "北京"}, "active": true, "score": null},
        {"id": 3, "name": "Bo", "score": 10}
    ]"#;
    let nested = format!("{{\"data\": {{\"items\": {rows}}}, \"total\": 3}}");
    let lines: String = serde_json::from_str::<Vec<Value>>(rows)
        .unwrap()
        .iter()
        .map(|row| format!("{row}\n\n"))
        .collect();
    place(&[
        ("sales.csv", SALES.as_bytes()),
        ("rows.json", rows.as_bytes()),
        ("nested.json", nested.as_bytes()),
        ("rows.jsonl", lines.as_bytes()),
    ])
}

/// A question about a file.
fn about(path: &str, mut question: Value) -> Value {
    question["path"] = path.into();
    question
}

#[track_caller]
fn check(root: &Root, path: &str, question: Value, want: &str) {
    assert_eq!(
        text(&query_table(root, limits()), about(path, question)),
        want
    );
}

#[test]
fn rows_are_chosen_and_sorted() {
    let (_place, root) = sales();
    check(&root, "sales.csv", json!({}), SALES.trim_end());
    let ink =
        json!({"where": [{"column": "product", "value": "ink"}], "select": ["price", "shop"]});
    check(&root, "sales.csv", ink, "price,shop\n20,上海\n19.90,北京");
    // As numbers, not as text; what is no number comes behind, and nothing comes last.
    let by_price = json!({"select": ["price"], "order_by": [{"column": "price"}]});
    check(
        &root,
        "sales.csv",
        by_price,
        "price\n1.10\n1.2\n19.90\n20\nn/a",
    );
    let by_count =
        json!({"select": ["count"], "order_by": [{"column": "count", "descending": true}]});
    check(&root, "sales.csv", by_count, "count\n10\n3\n2\n1\n\"\"");
    let two = json!({
        "select": ["shop", "price"], "limit": 3,
        "order_by": [{"column": "shop"}, {"column": "price", "descending": true}],
    });
    check(
        &root,
        "sales.csv",
        two,
        "shop,price\n上海,20\n上海,1.2\n北京,19.90\n[the first 3 of 5 rows]",
    );
}

#[test]
fn conditions() {
    let (_place, root) = sales();
    for (operator, column, value, want) in [
        ("=", "price", json!(1.1), "北京"),
        ("==", "price", json!("1.100"), "北京"),
        ("!=", "shop", json!("北京"), "上海\n上海\n深圳"),
        ("<", "price", json!(2), "北京\n上海"),
        ("<=", "price", json!("1.2"), "北京\n上海"),
        (">", "price", json!(19.9), "上海\n深圳"),
        (">=", "count", json!(3), "北京\n上海"),
        ("in", "count", json!([1, "2"]), "上海\n深圳"),
        ("contains", "product", json!("\"hi\""), "深圳"),
        ("starts_with", "product", json!("pen, "), "北京\n上海"),
        ("matches", "product", json!("^i.k$"), "上海\n北京"),
        ("is_empty", "count", json!(null), "北京"),
        (
            "is_not_empty",
            "count",
            json!(null),
            "北京\n上海\n上海\n深圳",
        ),
    ] {
        let question = json!({"select": ["shop"], "where": [{"column": column, "operator": operator, "value": value}]});
        check(&root, "sales.csv", question, &format!("shop\n{want}"));
    }
    let both = json!({"select": ["price"], "where": [
        {"column": "shop", "value": "北京"}, {"column": "price", "operator": "<", "value": 2},
    ]});
    check(&root, "sales.csv", both, "price\n1.10");
    let none = json!({"select": ["price"], "where": [{"column": "shop", "value": "x"}]});
    check(&root, "sales.csv", none, "price\n[no rows]");
}

#[test]
fn groups_and_numbers_over_them() {
    let (_place, root) = sales();
    let question = json!({
        "group_by": ["shop"],
        "aggregate": [
            {"function": "count", "name": "rows"}, {"function": "count", "column": "count"},
            {"function": "sum", "column": "price"}, {"function": "avg", "column": "count", "name": "mean"},
        ],
        "order_by": [{"column": "sum(price)", "descending": true}],
    });
    let want = "shop,rows,count(count),sum(price),mean\n上海,2,2,21.2,5.5\n北京,2,1,21,3\n深圳,1,1,0,2\n\
                [sum(price): 1 cells are no numbers and do not count]";
    check(&root, "sales.csv", question, want);
    let question = json!({"aggregate": [
        {"function": "count_distinct", "column": "product"}, {"function": "min", "column": "price"},
        {"function": "max", "column": "count"}, {"function": "count"},
    ]});
    let want = "count_distinct(product),min(price),max(count),count\n3,1.10,10,5";
    check(&root, "sales.csv", question, want);
    let question = json!({"group_by": ["shop"], "select": ["count", "shop"], "aggregate": [{"function": "count"}], "limit": 1});
    check(
        &root,
        "sales.csv",
        question,
        "count,shop\n2,北京\n[the first 1 of 3 rows]",
    );
    let nobody =
        json!({"where": [{"column": "shop", "value": "x"}], "aggregate": [{"function": "count"}]});
    check(&root, "sales.csv", nobody, "count\n0");
}

#[test]
fn tables_of_json() {
    let (_place, root) = sales();
    let all = "id,name,address,tags,score,active\n\
               1,Ada,\"{\"\"city\"\":\"\"London\"\"}\",\"[\"\"a\"\",\"\"b\"\"]\",9.5,\n\
               2,小明,\"{\"\"city\"\":\"\"北京\"\"}\",,,true\n\
               3,Bo,,,10,";
    check(&root, "rows.json", json!({}), all);
    check(&root, "rows.jsonl", json!({}), all);
    let question = json!({
        "select": ["name", "address.city", "/tags/1"], "order_by": [{"column": "score", "descending": true}],
    });
    let want = "name,address.city,/tags/1\nBo,,\nAda,London,b\n小明,北京,";
    check(&root, "rows.json", question.clone(), want);
    let mut nested = question;
    nested["rows_at"] = "/data/items".into();
    check(&root, "nested.json", nested, want);
    let active = json!({"select": ["id"], "where": [{"column": "active", "value": true}]});
    check(&root, "rows.jsonl", active, "id\n2");
    root.write("plain.json", b"[3, 1, 2]").unwrap();
    let plain = json!({"order_by": [{"column": "value"}]});
    check(&root, "plain.json", plain, "value\n1\n2\n3");
    root.write("none.json", b"[]").unwrap();
    check(&root, "none.json", json!({}), "[no rows]");
    root.write("none.csv", b"a,b\n").unwrap();
    check(&root, "none.csv", json!({}), "a,b\n[no rows]");
    let count = json!({"aggregate": [{"function": "count"}]});
    check(&root, "none.json", count, "count\n0");
}

#[test]
fn files_of_other_programs() {
    // 城市,名\n北京,李\n in GB 18030; a mark of UTF-8; tabs and semicolons; Windows' line ends; no name, a name twice.
    let chinese = b"\xb3\xc7\xca\xd0,\xc3\xfb\n\xb1\xb1\xbe\xa9,\xc0\xee\n";
    let (_place, root) = place(&[
        ("gb.csv", chinese),
        ("mark.csv", b"\xef\xbb\xbfa;b\r\n1;\"x\r\ny\"\r\n"),
        ("tab.tsv", b"a\t\ta\n1\t2\t3\n4\n5\t6\t7\t8\n"),
        ("bad.csv", b"a,b\n\xff,1\n"),
    ]);
    check(
        &root,
        "gb.csv",
        json!({"encoding": "gb18030"}),
        "城市,名\n北京,李",
    );
    check(&root, "mark.csv", json!({}), "a,b\n1,\"x\r\ny\"");
    check(
        &root,
        "tab.tsv",
        json!({}),
        "a,column_2,a_2\n1,2,3\n4,,\n5,6,7\n[2 rows have more or fewer cells than the header]",
    );
    check(&root, "bad.csv", json!({}), "a,b\n\u{fffd},1");
}

#[test]
fn what_does_not_fit_is_said() {
    let (_place, root) = sales();
    let tool = query_table(&root, limits());
    let columns = "the columns are shop, product, price, count";
    for (question, want) in [
        (json!({"select": ["cost"]}), format!("there is no column `cost`; {columns}")),
        (json!({"where": [{"column": "cost", "value": 1}]}), format!("there is no column `cost`; {columns}")),
        (json!({"group_by": ["town"]}), format!("there is no column `town`; {columns}")),
        (
            json!({"group_by": ["shop"], "order_by": [{"column": "price"}]}),
            "`price` is no column of the groups, which have shop".to_owned(),
        ),
        (
            json!({"group_by": ["shop"], "select": ["price"]}),
            "`price` is no column of the groups, which have shop".to_owned(),
        ),
        (
            json!({"aggregate": [{"function": "sum"}]}),
            "`aggregate`: only `count` can do without a `column`".to_owned(),
        ),
        (
            json!({"where": [{"column": "shop", "operator": "in", "value": "x"}]}),
            "`where`: the condition on `shop` needs a list as its value".to_owned(),
        ),
        (
            json!({"where": [{"column": "shop", "operator": "<"}]}),
            "`where`: the condition on `shop` needs a value".to_owned(),
        ),
        (
            json!({"where": [{"column": "shop", "value": {}}]}),
            "`where`: the condition on `shop` has a value that is neither text nor number".to_owned(),
        ),
        (json!({"encoding": "klingon"}), "`encoding`: `klingon` is not known".to_owned()),
        (json!({"rows_at": "a[0"}), "`rows_at`: a `[` is not closed".to_owned()),
        (json!({"sort": "shop"}), "`sort` is unknown (known are: path, select, where, group_by, aggregate, order_by, limit, rows_at, encoding)".to_owned()),
    ] {
        assert_eq!(misfit(&tool, about("sales.csv", question)), want);
    }
    let fault = misfit(
        &tool,
        about(
            "sales.csv",
            json!({"where": [{"column": "shop", "operator": "~"}]}),
        ),
    );
    assert!(
        fault.starts_with("`where[0].operator`: unknown variant `~`"),
        "{fault}"
    );
    let fault = misfit(
        &tool,
        about(
            "sales.csv",
            json!({"where": [{"column": "shop", "equals": 1}]}),
        ),
    );
    assert!(
        fault.starts_with("`where[0].equals`: unknown field `equals`"),
        "{fault}"
    );
    let large =
        json!({"where": [{"column": "shop", "operator": "matches", "value": "(a{1000}){1000}"}]});
    assert!(misfit(&tool, about("sales.csv", large)).contains("size limit"));
    assert_eq!(
        failure(&tool, about("none.csv", json!({}))),
        "there is no `none.csv`"
    );
    assert_eq!(
        failure(&tool, about("nested.json", json!({}))),
        "at `` of `nested.json` is an object of data, total; `rows_at` says where an array of rows is"
    );
    assert_eq!(
        failure(
            &tool,
            about("nested.json", json!({"rows_at": "/data/rows"}))
        ),
        "there is no `/data/rows`: at `/data` is an object of items"
    );
    root.write("empty.csv", b"").unwrap();
    assert_eq!(
        failure(&tool, about("empty.csv", json!({}))),
        "`empty.csv` is empty"
    );
    root.write("bad.jsonl", b"{}\n{\"a\": }\n").unwrap();
    let fault = failure(&tool, about("bad.jsonl", json!({})));
    assert!(
        fault.starts_with("line 2 of `bad.jsonl` is not JSON: "),
        "{fault}"
    );
    root.write("bad.json", b"[{}, {]").unwrap();
    assert!(failure(&tool, about("bad.json", json!({}))).starts_with("`bad.json` is not JSON"));
    let denied = call(&tool, about("../sales.csv", json!({})));
    assert!(
        matches!(denied, Err(ToolError::Denied { .. })),
        "{denied:?}"
    );
}

#[test]
fn tables_have_limits() {
    let mut many = String::from("n,text\n");
    for n in 0..2000 {
        writeln!(many, "{n},{}", "x".repeat(n % 50)).unwrap();
    }
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("[{{\"a\": [{}1]}}]", "0,".repeat(20_000));
    let (_place, root) = place(&[
        ("many.csv", many.as_bytes()),
        ("deep.json", deep.as_bytes()),
        (
            "large.json",
            format!("[{{\"{}\": 1}}]", "a".repeat(100_000)).as_bytes(),
        ),
        ("wide.json", wide.as_bytes()),
        ("wide.jsonl", &wide.as_bytes()[1..wide.len() - 1]),
        (
            "quote.csv",
            format!("a\n\"{}", "x".repeat(100_000)).as_bytes(),
        ),
        ("commas.csv", ",".repeat(100_000).as_bytes()),
    ]);
    let told = |limits: QueryLimits, path: &str, question: Value| {
        limit(&query_table(&root, limits), about(path, question))
    };
    let question = json!({});
    assert_eq!(
        told(limits().with_file_bytes(1000), "many.csv", question.clone()),
        "`many.csv` has more than 1000 bytes"
    );
    assert_eq!(
        told(
            limits().with_file_bytes(1000),
            "wide.json",
            question.clone()
        ),
        "`wide.json` has more than 1000 bytes"
    );
    assert_eq!(
        told(
            limits().with_file_bytes(1000),
            "wide.jsonl",
            question.clone()
        ),
        "`wide.jsonl` has more than 1000 bytes"
    );
    assert_eq!(
        told(limits().with_row_bytes(1000), "quote.csv", question.clone()),
        "a row of `quote.csv` has more than 1000 bytes"
    );
    assert_eq!(
        told(
            limits().with_row_bytes(1000),
            "wide.jsonl",
            question.clone()
        ),
        "line 1 of `wide.jsonl` has more than 1000 bytes"
    );
    assert_eq!(
        told(limits(), "commas.csv", question.clone()),
        "a row of `commas.csv` has more than 1000 columns"
    );
    for path in ["wide.json", "wide.jsonl"] {
        assert_eq!(
            told(limits(), path, question.clone()),
            "a row has more than 10000 values"
        );
    }
    let header: Vec<String> = (0..900)
        .map(|n| format!("column {n} {}", "x".repeat(100)))
        .collect();
    root.write("header.csv", header.join(",").as_bytes())
        .unwrap();
    let wide = "900 columns are too many for an answer; `select` names those to give";
    assert_eq!(told(limits(), "header.csv", question.clone()), wide);
    // Long names are not repeated whole.
    let unknown = misfit(
        &query_table(&root, limits()),
        about("large.json", json!({"select": ["b"]})),
    );
    assert_eq!(
        unknown,
        format!(
            "there is no column `b`; the columns are {}…",
            "a".repeat(60)
        )
    );
    let groups = json!({"group_by": ["n"]});
    assert_eq!(
        told(limits().with_groups(100), "many.csv", groups.clone()),
        "there are more than 100 groups"
    );
    let kept = "the question would keep more than 10000 bytes on the way to its answer";
    assert_eq!(
        told(limits().with_kept_bytes(10_000), "many.csv", groups),
        kept
    );
    let distinct = json!({"aggregate": [{"function": "count_distinct", "column": "n"}]});
    assert_eq!(
        told(limits().with_kept_bytes(10_000), "many.csv", distinct),
        kept
    );
    let tool = query_table(&root, limits());
    let fault = failure(&tool, about("deep.json", json!({})));
    assert!(fault.contains("recursion limit"), "{fault}");
    // What is sorted is not kept whole.
    let tool = query_table(&root, limits().with_kept_bytes(20_000).with_rows(3));
    let last = json!({"select": ["n"], "order_by": [{"column": "n", "descending": true}]});
    assert_eq!(
        text(&tool, about("many.csv", last)),
        "n\n1999\n1998\n1997\n[the first 3 of 2000 rows; no more are given at a time]"
    );
    let tool = query_table(&root, limits().with_output_bytes(60).with_cell_bytes(4));
    assert_eq!(
        text(
            &tool,
            about(
                "many.csv",
                json!({"where": [{"column": "n", "operator": ">", "value": 9}]})
            )
        ),
        "n,text\n10,xxxx…\n11,xxxx…\n12,xxxx…\n13,xxxx…\n[the first 4 of 1990 rows; more would be too long]"
    );
    let cancel = CancelToken::new();
    cancel.cancel();
    let mut context = ToolContext::default();
    context.cancel = cancel;
    for path in ["many.csv", "wide.json", "wide.jsonl"] {
        let result = tool.call(&about(path, json!({})), &context);
        assert!(
            matches!(result, Err(ToolError::Cancelled)),
            "{path}: {result:?}"
        );
    }
}

#[test]
fn parts_of_json() {
    let (_place, root) = sales();
    let tool = query_json(&root, limits());
    for (at, want) in [
        ("/data/items/0/name", "\"Ada\""),
        ("data.items[1].address", "{\"city\": \"北京\"}"),
        ("$.data.items[*].id", "[1, 2, 3]"),
        ("/data/items/*/tags/*", "[\"a\", \"b\"]"),
        ("/data/items/*/address/city", "[\"London\", \"北京\"]"),
        ("/total", "3"),
        ("/data/items/*/none", "[]"),
    ] {
        assert_eq!(
            text(&tool, json!({"path": "nested.json", "at": at})),
            want,
            "{at}"
        );
    }
    let whole = call(&tool, json!({"path": "rows.json"})).unwrap();
    assert_eq!(whole.parts.len(), 1);
    assert!(
        whole
            .to_text()
            .starts_with("[{\"id\": 1, \"name\": \"Ada\"")
    );
}

#[test]
fn places_that_are_not_there() {
    let (_place, root) = sales();
    let tool = query_json(&root, limits());
    for (at, want) in [
        (
            "/date",
            "there is no `/date`: the file holds an object of data, total",
        ),
        (
            "/data/items/7",
            "there is no `/data/items/7`: at `/data/items` is an array of 3 elements",
        ),
        (
            "/data/items/0/nom",
            "there is no `/data/items/0/nom`: at `/data/items/0` is an object of id, name, address, tags, score",
        ),
        ("/total/0", "there is no `/total/0`: at `/total` is 3"),
        (
            "data.items[1].score.x",
            "there is no `/data/items/1/score/x`: at `/data/items/1/score` is null",
        ),
    ] {
        assert_eq!(
            failure(&tool, json!({"path": "nested.json", "at": at})),
            want
        );
    }
    assert_eq!(
        misfit(&tool, json!({"path": "nested.json", "at": "a[0"})),
        "`at`: a `[` is not closed"
    );
    assert_eq!(misfit(&tool, json!({"at": "/a"})), "`path` is missing");
    assert_eq!(
        failure(&tool, json!({"path": "none.json"})),
        "there is no `none.json`"
    );
    root.write("bad.json", b"{\"a\": 1} x").unwrap();
    assert!(failure(&tool, json!({"path": "bad.json"})).starts_with("`bad.json` is not JSON"));
}

#[test]
fn json_has_limits() {
    let (_place, root) = sales();
    let large = json!({"list": vec![json!({"a": 1, "b": 2}); 5000], "text": "x".repeat(100_000)});
    root.write("large.json", large.to_string().as_bytes())
        .unwrap();
    root.write("deep.json", "[".repeat(1_000_000).as_bytes())
        .unwrap();
    let tool = query_json(&root, limits().with_output_bytes(5000));
    let told = |at: &str| limit(&tool, json!({"path": "large.json", "at": at}));
    assert_eq!(
        told(""),
        "the file is too large to be given: it is an object of list, text; ask for a part of it"
    );
    assert_eq!(
        told("/list"),
        "`/list` is too large to be given: it is an array of 5000 elements, the first one an object of a, b; \
         ask for a part of it"
    );
    assert_eq!(
        told("/text"),
        "`/text` is too large to be given: it is a string of 100000 bytes; ask for a part of it"
    );
    assert_eq!(
        told("/list/*/a"),
        "`/list/*/a` is too large to be given: it is 5000 values, the first one a number; ask for a part of it"
    );
    assert_eq!(
        text(&tool, json!({"path": "large.json", "at": "/list/4999/b"})),
        "2"
    );
    let fault = failure(&tool, json!({"path": "deep.json"}));
    assert!(fault.contains("recursion limit"), "{fault}");
    let tool = query_json(&root, limits().with_file_bytes(1000));
    assert_eq!(
        limit(&tool, json!({"path": "large.json", "at": "/list/0"})),
        "`large.json` has more than 1000 bytes"
    );
}
