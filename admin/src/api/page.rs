//! The page at `/`: where everything is.

use axum::response::Html;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName};

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Fairway</title>
<h1>Fairway</h1>
<ul>
<li><a href=\"/api/v1/status\">status</a></li>
<li><a href=\"/api/v1/routes\">routes</a></li>
<li><a href=\"/api/v1/backends\">backends</a></li>
<li><a href=\"/api/v1/instances\">instances</a></li>
<li><a href=\"/api/v1/problems\">problems</a></li>
<li><a href=\"/api/v1/health\">health</a></li>
<li><a href=\"/api/v1/events\">events</a></li>
<li><a href=\"/api/v1/audit\">audit</a></li>
<li><a href=\"/metrics\">metrics</a></li>
<li><a href=\"/readyz?verbose\">readiness</a></li>
<li><a href=\"/openapi.json\">description of this API</a></li>
</ul>
</html>
";

pub(super) async fn page() -> ([(HeaderName, &'static str); 1], Html<&'static str>) {
    ([(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'")], Html(PAGE))
}
