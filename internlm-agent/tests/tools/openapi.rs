//! Tools from an OpenAPI document, against a local service.

use internlm_agent::tool::{Tool, ToolContext, ToolError};
use internlm_agent::tools::web::openapi::{OpenApiConfig, OpenApiError, OpenApiTools, load, tools};
use serde_json::{Map, Value, json};

use crate::stand_in::{Answer, StandIn};

fn document() -> Value {
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Shop", "version": "1"},
        "servers": [{"url": "/{version}/", "variables": {"version": {"default": "v1"}}}],
        "paths": {
            "/items/{id}": {
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "get": {
                    "operationId": "items.get one",
                    "summary": "An item.",
                    "description": "With its price.",
                    "parameters": [
                        {"name": "fields", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                        {"name": "tags", "in": "query", "explode": false,
                         "schema": {"type": "array", "items": {"type": "string"}}},
                        {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                        {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
                    ],
                },
                "delete": {"deprecated": true},
            },
            "/items": {
                "post": {
                    "operationId": "add",
                    "requestBody": {"required": true, "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Item"}},
                    }},
                },
                "put": {
                    "operationId": "items_get_one",
                    "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}},
                },
            },
            "/upload": {"post": {"requestBody": {"content": {"multipart/form-data": {"schema": {}}}}}},
            "/outer": {"get": {"parameters": [{"$ref": "https://a.example/p.json"}]}},
            "/lost/{x}": {"get": {}},
        },
        "components": {
            "parameters": {"Id": {
                "name": "id", "in": "path", "required": true, "description": "Its number.",
                "schema": {"type": "string"},
            }},
            "schemas": {"Item": {
                "type": "object", "required": ["name", "id"],
                "properties": {
                    "name": {"type": "string"}, "id": {"type": "integer", "readOnly": true},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
                },
            }},
        },
    })
}

fn service() -> StandIn {
    StandIn::new(|asked| match (asked.method.as_str(), asked.path()) {
        (_, "/openapi.json") => Answer::json(&document()),
        (_, "/huge.json") => Answer::new("application/json", " ".repeat(3 << 20)),
        (_, "/page") => Answer::html("<p>no"),
        ("GET", "/v1/items/0") => Answer::json(&json!({"detail": "no such item"})).with_status(404),
        ("GET", "/v1/items/long") => Answer::new("text/plain", "x".repeat(30_000)),
        ("GET", "/v1/items/away") => Answer::html("")
            .with_status(307)
            .with_header("Location", "http://a.example/"),
        ("GET", path) => Answer::json(&json!({"path": path, "price": 3})),
        ("POST", "/v1/items") => Answer::json(&asked.json()).with_status(201),
        ("PUT", "/v1/items") => Answer::new("text/plain", asked.body.clone()),
        ("DELETE", _) => Answer {
            status: 204,
            headers: Vec::new(),
            body: Vec::new(),
        },
        _ => Answer::html("<p>not there").with_status(404),
    })
}

fn made(service: &StandIn) -> OpenApiTools {
    let config = OpenApiConfig::default().with_header("Authorization", "Bearer secret");
    load(&service.url("/openapi.json"), &config, &service.fetcher()).unwrap()
}

fn call(made: &OpenApiTools, name: &str, arguments: Value) -> Result<Value, ToolError> {
    let tool = made
        .tools
        .iter()
        .find(|tool| tool.spec().name == name)
        .unwrap();
    let output = tool.call(&arguments, &ToolContext::default())?;
    Ok(serde_json::from_str(&output.to_text()).unwrap())
}

#[test]
fn a_document_becomes_tools() {
    let made = made(&service());
    let told: Vec<(&str, bool)> = made
        .tools
        .iter()
        .map(|tool| (tool.spec().name.as_str(), tool.needs_approval()))
        .collect();
    let want = [
        ("add", true),
        ("items_get_one", true),
        ("items_get_one_2", false),
        ("delete_items_id", true),
    ];
    assert_eq!(told, want);
    let get = made.tools[2].spec();
    assert_eq!(get.description, "An item.\nWith its price.");
    assert_eq!(
        get.parameters,
        json!({
            "type": "object", "additionalProperties": false, "required": ["id"],
            "properties": {
                "id": {"type": "string", "description": "Its number."},
                "fields": {"type": "array", "items": {"type": "string"}},
                "tags": {"type": "array", "items": {"type": "string"}},
                "X-Trace": {"type": "string"},
            },
        })
    );
    assert_eq!(
        made.tools[3].spec().description,
        "DELETE /items/{id}\nDeprecated."
    );
    let body = &made.tools[0].spec().parameters["properties"]["body"];
    assert_eq!(body["required"], json!(["name"]));
    assert_eq!(
        body["properties"]["parts"]["items"]["properties"]["name"],
        json!({"type": "string"})
    );
    let skipped: Vec<String> = made
        .skipped
        .iter()
        .map(|s| format!("{}: {}", s.operation, s.why))
        .collect();
    assert_eq!(
        skipped,
        [
            "GET /lost/{x}: nothing says what `x` in its path is",
            "GET /outer: the reference `https://a.example/p.json` leads to nothing in the document",
            "POST /upload: its body is neither JSON nor a form: multipart/form-data",
        ]
    );
}

#[test]
fn operations_are_called() {
    let service = service();
    let made = made(&service);
    let arguments =
        json!({"id": "a/b ?", "fields": ["x", "y"], "tags": ["p", "q"], "X-Trace": "7"});
    let told = call(&made, "items_get_one_2", arguments).unwrap();
    assert_eq!(
        told["body"],
        json!({"path": "/v1/items/a%2Fb%20%3F", "price": 3})
    );
    let told = call(&made, "add", json!({"body": {"name": "nut", "parts": []}})).unwrap();
    assert_eq!(
        (&told["status"], &told["body"]["name"]),
        (&json!(201), &json!("nut"))
    );
    let told = call(
        &made,
        "items_get_one",
        json!({"body": {"a b": "c&d", "n": [1, 2]}}),
    )
    .unwrap();
    assert_eq!(told["body"], "a%20b=c%26d&n=1&n=2");
    assert_eq!(
        call(&made, "delete_items_id", json!({"id": 5.to_string()})).unwrap(),
        json!({"status": 204})
    );
    let asked = service.asked();
    assert_eq!(asked[1].queries("fields"), ["x", "y"]);
    assert_eq!(asked[1].query("tags").as_deref(), Some("p,q"));
    assert_eq!(asked[1].header("x-trace"), Some("7"));
    assert_eq!(asked[1].header("authorization"), Some("Bearer secret"));
    // The document itself was asked for without the key.
    assert_eq!(asked[0].header("authorization"), None);
    assert!(!format!("{made:?}").contains("secret"));
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let service = service();
    let made = made(&service);
    for (name, arguments) in [
        ("items_get_one_2", json!({})),
        ("items_get_one_2", json!({"id": ".."})),
        ("items_get_one_2", json!({"id": ""})),
        ("items_get_one_2", json!({"id": "1", "fields": [{"a": 1}]})),
        ("items_get_one_2", json!({"id": "1", "X-Trace": "a\nb"})),
        (
            "items_get_one_2",
            json!({"id": "1", "Authorization": "mine"}),
        ),
        ("items_get_one", json!({"body": {"a": {"b": 1}}})),
        ("add", json!({})),
    ] {
        let error = call(&made, name, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{arguments}: {error}"
        );
    }
    assert_eq!(service.asked().len(), 1);
    let error = call(&made, "items_get_one_2", json!({"id": "0"})).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("status 404: {\"detail\":\"no such item\"}"),
        "{error}"
    );
    // Not to other hosts, wherever a server sends us.
    let error = call(&made, "items_get_one_2", json!({"id": "away"})).unwrap_err();
    assert!(matches!(error, ToolError::Denied { .. }), "{error}");
}

#[test]
fn limits_hold() {
    let service = service();
    let told = call(&made(&service), "items_get_one_2", json!({"id": "long"})).unwrap();
    let body = told["body"].as_str().unwrap();
    assert!(
        body.len() < 20_100 && body.ends_with("[the answer is longer]"),
        "{}",
        body.len()
    );

    let fetcher = service.fetcher();
    let config = OpenApiConfig::default();
    let error = load(&service.url("/huge.json"), &config, &fetcher).unwrap_err();
    assert!(matches!(error, OpenApiError::TooLong { .. }), "{error}");
    let error = load(&service.url("/page"), &config, &fetcher).unwrap_err();
    assert!(matches!(error, OpenApiError::Json { .. }), "{error}");
    let error = load(&service.url("/v1/items/0"), &config, &fetcher).unwrap_err();
    assert!(
        matches!(error, OpenApiError::Status { status: 404, .. }),
        "{error}"
    );
    let few = OpenApiConfig::default()
        .with_server("http://a.example")
        .with_max_operations(2);
    let error = tools(&document(), &few, &fetcher).unwrap_err();
    assert!(
        matches!(error, OpenApiError::TooMany { limit: 2 }),
        "{error}"
    );
    let error = tools(&document(), &config, &fetcher).unwrap_err();
    assert!(matches!(error, OpenApiError::Server { .. }), "{error}");
    for other in [
        json!({}),
        json!({"swagger": "2.0"}),
        json!({"openapi": "3.1.0"}),
        json!([]),
    ] {
        let error = tools(&other, &config, &fetcher).unwrap_err();
        assert!(
            matches!(error, OpenApiError::Document { .. }),
            "{other}: {error}"
        );
    }

    // Schemas that double at each level.
    let mut schemas = Map::new();
    for level in 0..40 {
        let to = json!({"$ref": format!("#/components/schemas/{}", level + 1)});
        let both = json!({"type": "object", "properties": {"a": to, "b": to}});
        schemas.insert(level.to_string(), both);
    }
    schemas.insert("40".to_owned(), json!({"type": "string"}));
    let first = json!({"$ref": "#/components/schemas/0"});
    let bomb = json!({
        "openapi": "3.1.0", "servers": [{"url": "http://a.example"}],
        "paths": {"/": {"post": {"requestBody": {"content": {"application/json": {"schema": first}}}}}},
        "components": {"schemas": schemas},
    });
    let made = tools(
        &bomb,
        &OpenApiConfig::default().with_max_depth(60),
        &fetcher,
    )
    .unwrap();
    assert_eq!(
        made.skipped[0].why,
        "its schemas are too large when references are written out"
    );
    // The usual limit of depth makes it small enough.
    assert_eq!(tools(&bomb, &config, &fetcher).unwrap().tools.len(), 1);
}
