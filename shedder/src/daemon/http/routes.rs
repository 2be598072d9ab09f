//! What is answered to which request.

use super::exposition;
use super::health::{self, NOT_ALIVE};
use super::snapshot::{Snapshot, Snapshots};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::timeout;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A path that is answered.
struct Route {
    path: &'static str,
    about: &'static str,
    answer: fn(&Snapshot) -> Answer,
}

static ROUTES: &[Route] = &[
    Route {
        path: "/metrics",
        about: "metrics, as OpenMetrics text",
        answer: |snapshot| (StatusCode::OK, exposition::CONTENT_TYPE, snapshot.metrics.clone()),
    },
    Route {
        path: "/healthz",
        about: "200 while the control loop turns, else 503",
        answer: |snapshot| {
            if snapshot.report.alive {
                (StatusCode::OK, PLAIN, "ok\n".into())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{NOT_ALIVE}\n").into())
            }
        },
    },
    Route {
        path: "/readyz",
        about: "200 while the daemon is ready, else 503 and the reasons as JSON",
        answer: |snapshot| {
            let obstacles = health::obstacles(&snapshot.report);
            let status = if obstacles.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, JSON, health::readiness(&obstacles).into())
        },
    },
];

/// Status, content type, body.
type Answer = (StatusCode, &'static str, Bytes);

/// Answers one request. Waits `patience` for the daemon's state.
pub(super) async fn respond<B>(
    request: &Request<B>,
    snapshots: &Snapshots,
    patience: Duration,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let route = ROUTES.iter().find(|route| route.path == path);
    if route.is_none() && path != "/" {
        let text = format!("There is nothing at this path. There is:\n{}", index());
        return response((StatusCode::NOT_FOUND, PLAIN, text.into()));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let text = "This endpoint is read by GET or HEAD; the `shedder` command changes things.\n";
        let mut refusal = response((StatusCode::METHOD_NOT_ALLOWED, PLAIN, text.into()));
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let Some(route) = route else {
        return response((StatusCode::OK, PLAIN, format!("shedder\n{}", index()).into()));
    };
    response(match timeout(patience, snapshots.get()).await {
        Ok(Ok(snapshot)) => (route.answer)(&snapshot),
        Ok(Err(sentence)) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{sentence}\n").into()),
        Err(_) => {
            let text = format!(
                "The daemon's state could not be gathered within {}. `shedder status` reads the kernel without the \
                 daemon.\n",
                humantime::format_duration(patience)
            );
            (StatusCode::SERVICE_UNAVAILABLE, PLAIN, text.into())
        }
    })
}

fn index() -> String {
    let mut text = String::new();
    for Route { path, about, .. } in ROUTES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{path:<10}{about}");
    }
    text
}

fn response((status, content_type, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
