//! The routes.

use std::sync::Arc;
use std::time::Duration;

use aquifer_runtime::metrics::Registry;
use aquifer_runtime::sockets::Listener;
use aquifer_runtime::tasks::TaskGroup;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Mutex;

use super::door::Door;
use super::groups::GroupsSource;
use super::health::{Health, Readiness};
use super::status::StatusSource;

/// What Prometheus expects of a scrape in the OpenMetrics text format.
const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long a stop waits for whoever has sent half a request, or does not read its answer.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(3);

/// What the routes read.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) health: Health,
    pub(crate) registry: Arc<Registry>,
    pub(crate) status: Arc<StatusSource>,
    pub(crate) groups: Arc<GroupsSource>,
    /// One scrape at a time: gauges that are looked up are set for it.
    pub(crate) scraping: Arc<Mutex<()>>,
}

/// Serves the admin port until the group is stopped.
pub(crate) async fn serve(listener: Listener, admin: Admin, tasks: TaskGroup) {
    let router = Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/groups", get(groups))
        .with_state(admin);
    let (stopping, stopped) = (tasks.cancelled().clone(), tasks.cancelled().clone());
    let serving = axum::serve(Door::new(listener), router)
        .with_graceful_shutdown(async move { stopping.cancelled().await });
    let given_up = async {
        stopped.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS_MAX).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "admin port failed");
            }
        }
        () = given_up => tracing::debug!("connections to the admin port were not over in time"),
    }
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.health.readiness() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
        }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let _scraping = admin.scraping.lock().await;
    admin.status.refresh_gauges();
    admin.groups.refresh_gauges().await;
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode metrics: {error}\n")).into_response()
        }
    }
}

async fn groups(State(admin): State<Admin>) -> Response {
    axum::Json(admin.groups.views().await).into_response()
}

async fn status(State(admin): State<Admin>) -> Response {
    axum::Json(admin.status.status()).into_response()
}
