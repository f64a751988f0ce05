//! Releases, and orders about them.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::done;
use crate::control::{Done, OrderError, Running, Step, Who};
use crate::extract::{Body, MaybeBody, Name};
use crate::problem::Refusal;
use crate::state::AppState;
use crate::types::{List, Release, ReleaseEnd, ReleaseOrder};
use crate::view;

/// Each route's last release, ended or not.
#[utoipa::path(get, operation_id = "list_releases", path = "/api/v1/releases", tag = "cluster", responses((status = 200, body = List<Release>, description = "Each route's last release")))]
pub(super) async fn list(State(app): AppState) -> Json<List<Release>> {
    let all = app.state.control.releases();
    Json(view::list(all.iter().map(|(route, running)| view::release(route, running)), &app.catalog()))
}

/// The last release of a route.
#[utoipa::path(
    get,
    operation_id = "get_release",
    path = "/api/v1/routes/{route}/release",
    tag = "cluster",
    params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
    responses(
        (status = 200, body = Release, description = "The last release"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
    )
)]
pub(super) async fn one(State(app): AppState, Name(name): Name) -> Result<Json<Release>, Refusal> {
    let (route, running) = app.state.control.release(&name)?;
    Ok(Json(view::release(&route, &running)))
}

/// Begins a release. One whose target is ready has its first share when this is answered.
#[utoipa::path(
    post,
    operation_id = "start_release",
    path = "/api/v1/routes/{route}/release",
    tag = "orders",
    params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
    request_body = ReleaseOrder,
    responses(
        (status = 201, body = Release, description = "It has begun"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
        (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is no such route"),
        (status = 409, body = Refusal, content_type = "application/problem+json", description = "One is running, or stands against it"),
        (status = 413, body = Refusal, content_type = "application/problem+json", description = "The body is larger than 64 KiB"),
        (status = 415, body = Refusal, content_type = "application/problem+json", description = "The body is said to be something else than JSON"),
        (status = 422, body = Refusal, content_type = "application/problem+json", description = "It cannot be"),
        (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
    )
)]
pub(super) async fn start(
    State(app): AppState,
    Name(name): Name,
    who: Who,
    Body(order): Body<ReleaseOrder>,
) -> Result<Response, Refusal> {
    let Done { now: (route, running), .. } = app.state.control.start_release(name, order, who).await?;
    Ok((StatusCode::CREATED, Json(view::release(&route, &running))).into_response())
}

macro_rules! step {
    ($(#[$doc:meta])* $name:ident $id:literal $path:literal $step:ident) => {
        $(#[$doc])*
        #[utoipa::path(
            post,
            operation_id = $id,
            path = $path,
            tag = "orders",
            params(("route" = String, Path, description = "Percent-encoded: `shop.company.com%2Fapi`")),
            request_body(content = Option<ReleaseEnd>, description = "May be left out"),
            responses(
                (status = 200, body = Release, description = "The release"),
                (status = 202, body = Release, description = "Not yet live everywhere after 2 s; or a rollback that is in force and cannot be stored"),
                (status = 400, body = Refusal, content_type = "application/problem+json", description = "The body is no JSON"),
                (status = 404, body = Refusal, content_type = "application/problem+json", description = "There is none"),
                (status = 409, body = Refusal, content_type = "application/problem+json", description = "It has ended, or its target is not ready"),
                (status = 422, body = Refusal, content_type = "application/problem+json", description = "The body orders something else"),
                (status = 503, body = Refusal, content_type = "application/problem+json", description = "It cannot be stored"),
            )
        )]
        pub(super) async fn $name(
            State(app): AppState,
            Name(name): Name,
            who: Who,
            MaybeBody(order): MaybeBody<ReleaseEnd>,
        ) -> Result<Response, Refusal> {
            answer(app.state.control.step_release(name, Step::$step, order, who).await)
        }
    };
}

step!(
    /// Promotes the target, whatever is known: it gets everything, and the others drain.
    confirm "confirm_release" "/api/v1/routes/{route}/release/confirm" Confirm
);
step!(
    /// Takes it back: the former split returns with a 0 for the target, which is disabled.
    rollback "roll_back_release" "/api/v1/routes/{route}/release/rollback" RollBack
);
step!(
    /// Holds it at its weight; it is watched as before.
    pause "pause_release" "/api/v1/routes/{route}/release/pause" Pause
);
step!(
    /// Lets it go on; one that is inconclusive takes its next step.
    resume "resume_release" "/api/v1/routes/{route}/release/resume" Resume
);

fn answer(
    done_with: Result<Done<(fairway_config::names::RouteId, Running)>, OrderError>,
) -> Result<Response, Refusal> {
    let Done { now: (route, running), live } = done_with?;
    Ok((done(live), Json(view::release(&route, &running))).into_response())
}
