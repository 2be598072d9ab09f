//! What is answered to which request.

use super::super::exposition::CONTENT_TYPE;
use super::super::health::NOT_ALIVE;
use super::{PATIENT, Server, healthy, request, told};
use crate::daemon::report::Report;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

async fn server_of(report: Report) -> Server {
    Server::start(told(move || report.clone()), PATIENT).await
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let server = server_of(healthy()).await;
    let answer = server.ask("GET", "/metrics?ignored=1").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, CONTENT_TYPE));
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(server.scrape().await.value("shedder_ready", &[]), 1.0);
}

#[tokio::test]
async fn health_is_that_the_loop_turns() {
    let answer = server_of(healthy()).await.ask("GET", "/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let not_ready = Report { not_ready: vec!["The interface eth0 is missing.".to_owned()], ..healthy() };
    assert_eq!(server_of(not_ready).await.ask("GET", "/healthz").await.status, 200);
    let answer = server_of(Report { alive: false, ..healthy() }).await.ask("GET", "/healthz").await;
    assert_eq!((answer.status, answer.body), (503, format!("{NOT_ALIVE}\n")));
}

#[tokio::test]
async fn readiness_gives_its_reasons() {
    let read = |body: &str| serde_json::from_str::<Value>(body).unwrap();
    let answer = server_of(healthy()).await.ask("GET", "/readyz").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(read(&answer.body), json!({ "ready": true }));
    let reasons = vec!["The interface \"eth0\" is missing.".to_owned(), "No signal from api.".to_owned()];
    let answer =
        server_of(Report { not_ready: reasons.clone(), ..healthy() }).await.ask("GET", "/readyz").await;
    assert_eq!((answer.status, read(&answer.body)), (503, json!({ "ready": false, "reasons": reasons })));
    let answer = server_of(Report { alive: false, ..healthy() }).await.ask("GET", "/readyz").await;
    assert_eq!((answer.status, read(&answer.body)), (503, json!({ "ready": false, "reasons": [NOT_ALIVE] })));
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let server = server_of(healthy()).await;
    for path in ["/", "/metrics", "/healthz", "/readyz", "/nowhere"] {
        let (get, head) = (server.ask("GET", path).await, server.ask("HEAD", path).await);
        assert!(!get.body.is_empty() && head.body.is_empty(), "{path}");
        assert_eq!(head.status, get.status, "{path}");
        for header in ["content-type", "content-length"] {
            assert_eq!(head.header(header), get.header(header), "{path} {header}");
        }
    }
}

#[tokio::test]
async fn the_index_and_a_wrong_path_list_the_paths() {
    let server = server_of(healthy()).await;
    for (path, status) in [("/", 200), ("/metrics/", 404), ("/favicon.ico", 404), ("//", 404)] {
        let answer = server.ask("GET", path).await;
        assert_eq!(answer.status, status, "{path}");
        for listed in ["/metrics", "/healthz", "/readyz"] {
            assert!(answer.body.contains(listed), "{path} lists {listed}");
        }
    }
}

#[tokio::test]
async fn nothing_but_get_and_head_is_allowed() {
    let server = server_of(healthy()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        for path in ["/", "/metrics", "/healthz", "/readyz"] {
            let answer = server.ask(method, path).await;
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
    }
    assert_eq!(server.ask("POST", "/nowhere").await.status, 404);
}

#[tokio::test]
async fn a_body_is_not_waited_for() {
    let server = server_of(healthy()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nstart")
        .await
        .unwrap();
    assert_eq!(super::Answer::read(&mut stream).await.unwrap().status, 405);
}

#[tokio::test]
async fn http_1_0_is_answered() {
    let server = server_of(healthy()).await;
    let answer = server.send(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert_eq!(server.send(&request("GET", "/healthz")).await.status, 200);
}
