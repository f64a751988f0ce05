//! The command line as clap reads it. What a command does is in the file of its name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fairway_config::file::Flags;
use fairway_config::labels::{Flaw, Limit, RouteLimits};
use fairway_config::names::{Percent, Weight};

/// Edge proxy and service discovery for Docker clusters.
#[derive(Debug, Parser)]
#[command(name = "fairway", version, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How a running Fairway is asked, and how its answer is shown.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ApiArgs {
    /// The admin API to ask: http://HOST:PORT, https://HOST:PORT or unix:/PATH [env: FAIRWAY_ADMIN_URL] [default:
    /// http://127.0.0.1:9900]
    #[arg(long = "admin", id = "admin_url", value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// A file with the token that the admin API wants [env: FAIRWAY_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A table for people, or the API's answer as it came
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

impl ApiArgs {
    /// What is written after the subcommand wins over what is written before it.
    pub(crate) fn over(self, before: Self) -> Self {
        Self {
            admin: self.admin.or(before.admin),
            token_file: self.token_file.or(before.token_file),
            output: self.output.or(before.output),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.admin.is_none() && self.token_file.is_none() && self.output.is_none()
    }
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's answer as it came.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch Docker, route requests, answer names
    Run(RunArgs),
    #[command(flatten)]
    Tool(Tool),
}

/// The commands that are no server.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// Validate the configuration; tells every error at once and exits with 2
    Check(CheckArgs),
    /// Look for label problems in compose files; exits with 1 if there are any
    Lint(LintArgs),
    #[command(flatten)]
    Ask(Ask),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
}

/// The commands that ask a running Fairway.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Routes with their backends, weights and shares
    Routes(ApiArgs),
    /// Backends: all instances of one service and version
    Backends(ApiArgs),
    /// Instances with state and condition
    Instances(ApiArgs),
    /// What is wrong, and what to do about it
    Problems(ApiArgs),
    /// How the process, its sources and its listeners are
    Status(ApiArgs),
    /// Set the weights of a route's backends, or clear them
    Split(SplitArgs),
    /// Release a version step by step; it goes back by itself when it is worse
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Have requests of a route copied to one of its backends; nobody waits for its answers
    Mirror(MirrorArgs),
    /// Show the timeouts and limits of a route and where each comes from; set some, or take them back
    Limits(LimitsArgs),
    /// Let an instance or a backend finish what runs; nothing new is sent to it
    Drain(StateArgs),
    /// Send nobody to an instance or a backend
    Disable(StateArgs),
    /// Send requests to an instance or a backend again
    Activate(StateArgs),
    /// Tell where a request would go, why, and why not elsewhere
    Explain(ExplainArgs),
    /// What changed in the cluster
    Events(EventsArgs),
}

impl Ask {
    /// The options of the admin API that stand after the subcommand.
    pub(crate) fn api(&self) -> &ApiArgs {
        match self {
            Self::Routes(api)
            | Self::Backends(api)
            | Self::Instances(api)
            | Self::Problems(api)
            | Self::Status(api)
            | Self::Split(SplitArgs { api, .. })
            | Self::Release(
                ReleaseCommand::Start(ReleaseStartArgs { api, .. })
                | ReleaseCommand::Status(ReleaseStatusArgs { api, .. })
                | ReleaseCommand::Confirm(ReleaseConfirmArgs { api, .. })
                | ReleaseCommand::Rollback(ReleaseStepArgs { api, .. })
                | ReleaseCommand::Pause(ReleaseStepArgs { api, .. })
                | ReleaseCommand::Resume(ReleaseStepArgs { api, .. }),
            )
            | Self::Mirror(MirrorArgs { api, .. })
            | Self::Limits(LimitsArgs { api, .. })
            | Self::Drain(StateArgs { api, .. })
            | Self::Disable(StateArgs { api, .. })
            | Self::Activate(StateArgs { api, .. })
            | Self::Explain(ExplainArgs { api, .. })
            | Self::Events(EventsArgs { api, .. }) => api,
        }
    }
}

/// The flags of `fairway run`. Each has an environment variable, `FAIRWAY_` and its name in capitals, which the
/// configuration reads.
#[derive(Debug, Args)]
#[command(after_help = "Each flag has an environment variable: FAIRWAY_HTTP for --http, lists by comma. \
                        Flags win over the environment, and that over the file. RUST_LOG sets the levels of the log: \
                        info unless set.")]
pub(crate) struct RunArgs {
    /// The configuration file, TOML; none is needed
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A Docker engine to watch; may be repeated [default: $DOCKER_HOST, else unix:///var/run/docker.sock]
    #[arg(long, value_name = "URL")]
    docker: Vec<String>,
    /// Where to listen for HTTP; may be repeated [default: 0.0.0.0:80]
    #[arg(long, value_name = "ADDR")]
    http: Vec<String>,
    /// Where to listen for HTTPS; may be repeated
    #[arg(long, value_name = "ADDR")]
    https: Vec<String>,
    /// Where to answer DNS; may be repeated [default: port 53 on 127.0.0.1 and the gateways of local bridge networks]
    #[arg(long, value_name = "ADDR")]
    dns: Vec<String>,
    /// Where the admin API listens, an address or unix:/PATH [default: 127.0.0.1:9900]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where splits, states and events are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// Take the listening sockets of the process that runs with the same state, which then ends; no connection is refused
    #[arg(long)]
    replace: bool,
}

impl From<RunArgs> for Flags {
    fn from(args: RunArgs) -> Self {
        let RunArgs { config, docker, http, https, dns, admin, state_dir, log_format, replace } = args;
        Self { config, docker, http, https, dns, admin, state_dir, log_format, replace }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file [env: FAIRWAY_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Compose files, of version 1, 2 or 3
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: fairway split shop.company.com/ web@v1=95 web@v2=5 --reason 'first users'")]
pub(crate) struct SplitArgs {
    /// The route, as `fairway routes` names it: shop.company.com/api
    pub(crate) route: String,
    /// A backend's weight, 0 to 1000; a backend that is not named gets 0
    #[arg(value_name = "BACKEND=WEIGHT", value_parser = share, required_unless_present = "clear")]
    pub(crate) weights: Vec<(String, Weight)>,
    /// Take the split back; the configuration file or the labels hold again
    #[arg(long, conflicts_with_all = ["weights", "expires", "reason"])]
    pub(crate) clear: bool,
    /// How long it holds, such as 30m or 2h; then the split it replaces returns
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) expires: Option<String>,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

/// What is done about releases.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Begin a release of a backend
    Start(ReleaseStartArgs),
    /// Each route's last release, or one with its evidence
    Status(ReleaseStatusArgs),
    /// Promote the target now: it gets everything, the others drain
    Confirm(ReleaseConfirmArgs),
    /// Take it back now: the former split returns, the target is disabled
    Rollback(ReleaseStepArgs),
    /// Hold it at its weight; it is watched as before
    Pause(ReleaseStepArgs),
    /// Let it go on; one that is inconclusive takes its next step
    Resume(ReleaseStepArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: fairway release start shop.company.com/ --to web@v2 --steps 5,25,100 --step-seconds 300"
)]
pub(crate) struct ReleaseStartArgs {
    /// The route, as `fairway routes` names it: shop.company.com/api
    pub(crate) route: String,
    /// The backend that is released
    #[arg(long, value_name = "BACKEND")]
    pub(crate) to: String,
    /// Its share in each step, in percent [default: 1,5,25,50,100]
    #[arg(
        long,
        value_name = "PERCENT",
        value_delimiter = ',',
        value_parser = number,
        allow_negative_numbers = true,
        conflicts_with = "manual"
    )]
    pub(crate) steps: Option<Vec<f64>>,
    /// How long a step takes, 1 to 86400 [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) step_seconds: Option<i64>,
    /// Start at 0, move the weights by hand (`fairway split`), then confirm
    #[arg(long)]
    pub(crate) manual: bool,
    /// The share of its requests that may fail, such as 0.05; more takes it back at once
    #[arg(long, value_name = "RATE", value_parser = number, allow_negative_numbers = true)]
    pub(crate) max_error_rate: Option<f64>,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseStatusArgs {
    /// The route; all of them when none is named
    pub(crate) route: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseConfirmArgs {
    /// The route
    pub(crate) route: String,
    /// Leave split and states as they are
    #[arg(long)]
    pub(crate) keep_weights: bool,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseStepArgs {
    /// The route
    pub(crate) route: String,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: fairway mirror shop.company.com/ web@v2 --percent 10\n\n\
                        Copies are marked with `X-Fairway-Mirror: 1`. They are whole requests, POSTs and their credentials \
                        among them: whatever the backend writes, it writes a second time.")]
pub(crate) struct MirrorArgs {
    /// The route, as `fairway routes` names it: shop.company.com/api
    pub(crate) route: String,
    /// The backend of the route that gets the copies; its weight may be 0
    #[arg(required_unless_present = "off")]
    pub(crate) backend: Option<String>,
    /// Of which part of the requests, above 0 and up to 100
    #[arg(long, value_name = "P", required_unless_present = "off")]
    pub(crate) percent: Option<Percent>,
    /// Copy nothing any more
    #[arg(long, conflicts_with_all = ["percent", "reason"])]
    pub(crate) off: bool,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: fairway limits shop.company.com/ timeout.first_byte=2s 'rate_limit=100/s burst 200' --expires 2h\n\n\
                        Limits: timeout.connect, timeout.first_byte, timeout.idle, timeout.total, retries, hedge, in_flight_max, \
                        body_max, rate_limit, rate_limit.client; each as the fairway.* label of its name."
)]
pub(crate) struct LimitsArgs {
    /// The route, as `fairway routes` names it: shop.company.com/api
    pub(crate) route: String,
    /// What to set; limits that are not named are again as labels and the configuration file say
    #[arg(value_name = "LIMIT=VALUE", value_parser = limit)]
    pub(crate) limits: Vec<(Limit, String)>,
    /// Take back all that is set; the labels and the configuration file hold again
    #[arg(long, conflicts_with_all = ["limits", "expires", "reason"])]
    pub(crate) clear: bool,
    /// How long they hold, such as 30m or 2h; then what they replace returns
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) expires: Option<String>,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// An instance (its id, or its container's name or id), else a backend (v2, web@v2 or shop/web@v2)
    #[arg(value_name = "INSTANCE|BACKEND")]
    pub(crate) subject: String,
    /// Wait until no request is in flight there; after `activate` until it is ready
    #[arg(long)]
    pub(crate) wait: bool,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The request's URL: http://shop.company.com/cart
    pub(crate) url: String,
    /// A header field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<std::net::IpAddr>,
    /// The request's method [default: GET]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what came after this revision
    #[arg(long, value_name = "REV")]
    pub(crate) after: Option<u64>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `BACKEND=WEIGHT`.
fn share(text: &str) -> Result<(String, Weight), String> {
    match text.rsplit_once('=') {
        Some((backend, weight)) if !backend.is_empty() => {
            Ok((backend.to_owned(), weight.parse::<Weight>().map_err(|error| error.to_string())?))
        }
        _ => Err("write BACKEND=WEIGHT, such as web@v2=5".to_owned()),
    }
}

/// A limit and its value, checked here and sent as it was written.
fn limit(text: &str) -> Result<(Limit, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("write LIMIT=VALUE, such as timeout.total=5s".to_owned());
    };
    let said = |flaw: Flaw| flaw.to_string();
    let limit: Limit = name.parse().map_err(said)?;
    RouteLimits::default().set(limit, value).map_err(said)?;
    Ok((limit, value.to_owned()))
}

/// A duration, checked here and sent as it was written.
/// A number that JSON can say: `NaN` and `inf` would be left out of the order, which then says something else.
fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("`{text}` is not a number")),
    }
}

fn duration(text: &str) -> Result<String, String> {
    fairway_config::duration::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `name: value`, as in an HTTP header.
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write NAME: VALUE, such as 'cookie: beta=1'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        let words = std::iter::once("fairway").chain(line.split(' '));
        Cli::try_parse_from(words).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_number_that_no_order_can_say_is_refused() {
        for end in [
            "--max-error-rate NaN",
            "--max-error-rate inf",
            "--steps 5,nan",
            "--steps x",
            "--max-error-rate 1e999",
        ] {
            let line = format!("release start shop.a.com/ --to v2 {end}");
            assert_eq!(parse(&line).err(), Some(ErrorKind::ValueValidation), "{end}");
        }
        parse("release start shop.a.com/ --to v2 --max-error-rate 0.05 --steps 5,50").expect("numbers");
    }

    #[test]
    fn the_admin_url_may_stand_before_and_after_the_subcommand() {
        for line in [
            "--admin http://a:1 routes",
            "routes --admin http://a:1",
            "--admin http://b:2 routes --admin http://a:1",
        ] {
            let cli = parse(line).expect(line);
            let Command::Tool(Tool::Ask(ask)) = cli.command else { panic!("routes asks the API") };
            let api = ask.api().clone().over(cli.api);
            assert_eq!(api.admin.as_deref(), Some("http://a:1"), "{line}");
        }
    }

    #[test]
    fn the_admin_flag_of_run_is_its_listener() {
        let line = "run --http 127.0.0.1:8080 --http [::1]:8080 --admin 127.0.0.1:9901 --log-format json";
        let cli = parse(line).expect(line);
        let Command::Run(args) = cli.command else { panic!("run was written") };
        let flags = Flags::from(args);
        assert_eq!(flags.http, ["127.0.0.1:8080", "[::1]:8080"]);
        assert_eq!(flags.admin.as_deref(), Some("127.0.0.1:9901"));
        assert_eq!(flags.log_format.as_deref(), Some("json"));
        assert!(cli.api.is_empty());
    }

    #[test]
    fn a_split_is_weights_or_a_clearing() {
        let cli = parse("split shop.a.com/ web@v1=95 v2=0 --expires 2h").expect("a split");
        let Command::Tool(Tool::Ask(Ask::Split(args))) = cli.command else { panic!("split was written") };
        let weights: Vec<_> = args.weights.iter().map(|(b, w)| (b.as_str(), w.get())).collect();
        assert_eq!(weights, [("web@v1", 95), ("v2", 0)]);
        assert!(parse("split shop.a.com/ --clear").is_ok());
        for (line, kind) in [
            ("split shop.a.com/", ErrorKind::MissingRequiredArgument),
            ("split shop.a.com/ web@v1=95 --clear", ErrorKind::ArgumentConflict),
            ("split shop.a.com/ web@v1=0.5", ErrorKind::ValueValidation),
            ("split shop.a.com/ web@v1=-5", ErrorKind::ValueValidation),
            ("split shop.a.com/ web@v1", ErrorKind::ValueValidation),
            ("split shop.a.com/ web@v1=1 --expires 2", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
        }
    }

    #[test]
    fn a_mirror_is_a_backend_and_a_percentage_or_off() {
        let cli = parse("mirror shop.a.com/ web@v2 --percent 0.5").expect("a mirror");
        let Command::Tool(Tool::Ask(Ask::Mirror(args))) = cli.command else { panic!("mirror was written") };
        assert_eq!(args.backend.as_deref(), Some("web@v2"));
        assert_eq!(args.percent.map(Percent::get), Some(0.5));
        for line in ["mirror shop.a.com/ --off", "mirror shop.a.com/ web@v2 --off"] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for (line, kind) in [
            ("mirror shop.a.com/", ErrorKind::MissingRequiredArgument),
            ("mirror shop.a.com/ web@v2", ErrorKind::MissingRequiredArgument),
            ("mirror shop.a.com/ --percent 10", ErrorKind::MissingRequiredArgument),
            ("mirror shop.a.com/ v2 --percent 10 --off", ErrorKind::ArgumentConflict),
            ("mirror shop.a.com/ v2 --percent 0", ErrorKind::ValueValidation),
            ("mirror shop.a.com/ v2 --percent 101", ErrorKind::ValueValidation),
            ("mirror shop.a.com/ v2 --percent=-5", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
        }
    }

    #[test]
    fn limits_are_names_and_values_or_a_clearing_or_a_question() {
        let cli = parse("limits shop.a.com/ timeout.total=none rate_limit=5/s --expires 2h").expect("limits");
        let Command::Tool(Tool::Ask(Ask::Limits(args))) = cli.command else { panic!("limits was written") };
        let limits: Vec<_> = args.limits.iter().map(|(limit, v)| (limit.as_str(), v.as_str())).collect();
        assert_eq!(limits, [("timeout.total", "none"), ("rate_limit", "5/s")]);
        assert!(parse("limits shop.a.com/").is_ok() && parse("limits shop.a.com/ --clear").is_ok());
        for (line, kind) in [
            ("limits", ErrorKind::MissingRequiredArgument),
            ("limits shop.a.com/ retries=1 --clear", ErrorKind::ArgumentConflict),
            ("limits shop.a.com/ --clear --reason x", ErrorKind::ArgumentConflict),
            ("limits shop.a.com/ retries", ErrorKind::ValueValidation),
            ("limits shop.a.com/ retries=11", ErrorKind::ValueValidation),
            ("limits shop.a.com/ retry=1", ErrorKind::ValueValidation),
            ("limits shop.a.com/ timeout.total=5", ErrorKind::ValueValidation),
            ("limits shop.a.com/ retries=1 --expires 2", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
        }
        assert!(limit("retrys=1").expect_err("no limit").contains("did you mean `retries`?"));
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("Cookie: a=b:c"), Ok(("Cookie".to_owned(), "a=b:c".to_owned())));
        assert!(header("cookie").is_err());
    }
}
