#!/usr/bin/env bash
# The main job of Fairway, shown on a real Docker engine: make demo. Ends with Ctrl-C, or by itself with ONCE=1.
#
# Starts an engine of its own when none answers. Everything it makes is named fairway-demo* and removed at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

NET=fairway-demo
IMAGE=fairway-demo-origin
RUN=$(mktemp -d /tmp/fairway-demo.XXXXXX)
HTTP=127.0.0.1:8080
HTTPS_PORT=8443
DNS_PORT=5300
ADMIN=http://127.0.0.1:9900
FAILED=0
DOCKERD_PID=
FAIRWAY_PID=

say()  { printf '\n\033[1m== %s\033[0m\n' "$*"; }
good() { printf '   ok    %s\n' "$*"; }
bad()  { printf '   WRONG %s\n' "$*"; FAILED=$((FAILED + 1)); }
die()  { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

cleanup() {
    local status=$?
    trap - EXIT INT TERM
    if [ -n "$FAIRWAY_PID" ] || [ -n "$DOCKERD_PID" ]; then say "cleaning up"; fi
    if [ -n "$FAIRWAY_PID" ]; then kill -TERM "$FAIRWAY_PID" 2>/dev/null || true; wait "$FAIRWAY_PID" 2>/dev/null || true; fi
    if docker info >/dev/null 2>&1; then
        docker ps -aq --filter label=fairway-demo | xargs -r docker rm -f >/dev/null 2>&1 || true
        docker network rm "$NET" >/dev/null 2>&1 || true
        docker image rm "$IMAGE" >/dev/null 2>&1 || true
    fi
    if [ -n "$DOCKERD_PID" ]; then
        kill -TERM "$DOCKERD_PID" 2>/dev/null || true
        wait "$DOCKERD_PID" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -s "$RUN/fairway.log" ]; then
        echo "the last lines of Fairway's log:" >&2
        grep -v ' client=' "$RUN/fairway.log" | tail -n 20 >&2 || true
    fi
    # Docker's mounts are gone with it; what is left are files.
    rm -rf --one-file-system "$RUN" 2>/dev/null || true
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# eventually SECONDS COMMAND...: runs the command until it succeeds.
eventually() {
    local end=$((SECONDS + $1)); shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

[ "$(id -u)" = 0 ] || die "it makes networks and listens on port 53: run it as root, or with sudo"
for port in 8080 8443 9900; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        die "port $port on 127.0.0.1 is in use; end the program that holds it (ss -ltnp 'sport = :$port')"
    fi
done

say "1. set-up"
sh tests/setup.sh
command -v dig >/dev/null || { echo "   installing dig (bind9-dnsutils)"; apt-get install -y -qq --no-install-recommends bind9-dnsutils >"$RUN/apt.log" 2>&1 || die "apt-get: $(tail -n 2 "$RUN/apt.log")"; }
# The toolchain may have been installed a moment ago.
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"

if docker info >/dev/null 2>&1; then
    good "a Docker engine answers: $(docker version --format '{{.Server.Version}}')"
else
    echo "   no Docker engine answers; starting one"
    # --bridge none: the demo makes its own network and leaves the machine's docker0 alone.
    dockerd --host "unix://$RUN/docker.sock" --data-root "$RUN/data" --exec-root "$RUN/exec" \
        --pidfile "$RUN/docker.pid" --bridge none >"$RUN/dockerd.log" 2>&1 &
    DOCKERD_PID=$!
    export DOCKER_HOST="unix://$RUN/docker.sock"
    answers() { kill -0 "$DOCKERD_PID" 2>/dev/null || die "dockerd ended: $(tail -n 3 "$RUN/dockerd.log")"; docker info >/dev/null 2>&1; }
    eventually 60 answers || die "dockerd does not answer: $(tail -n 3 "$RUN/dockerd.log")"
    good "engine started: $(docker version --format '{{.Server.Version}}')"
fi

say "2. build (a few minutes the first time)"
cargo build --bin fairway -p fairway -p fairway-testkit --bins
BIN=target/$(rustc -vV | sed -n 's/^host: //p')/debug
good "$("$BIN/fairway" --version)"

say "3. containers"
docker ps -aq --filter label=fairway-demo | xargs -r docker rm -f >/dev/null
docker network rm "$NET" >/dev/null 2>&1 || true
mkdir "$RUN/image"
cp "$BIN/origin" "$RUN/image/origin"
tar -C "$RUN/image" -c . | docker import --change 'ENTRYPOINT ["/origin"]' - "$IMAGE" >/dev/null
docker network create "$NET" >/dev/null
GATEWAY=$(docker network inspect "$NET" --format '{{(index .IPAM.Config 0).Gateway}}')

# start NAME SERVICE VERSION OPTIONS...: one labelled container of the demo.
start() {
    local name=$1 service=$2 version=$3; shift 3
    docker run -d --name "fairway-demo-$name" --network "$NET" --dns "$GATEWAY" --label fairway-demo=1 \
        --label fairway.project=demo --label "fairway.service=$service" --label "fairway.version=$version" \
        -e "SERVICE=$service" -e "VERSION=$version" "$@" >/dev/null
    good "started fairway-demo-$name"
}
WEB=(--label 'aliyun.routing.port_80=shop;shop.local' --label 'aliyun.probe.url=http://container/health')
start web-1 web v1 "${WEB[@]}" "$IMAGE"
start web-2 web v1 "${WEB[@]}" "$IMAGE"
start next-1 web v2 "${WEB[@]}" "$IMAGE"
start next-2 web v2 "${WEB[@]}" "$IMAGE"
start caller caller v1 --label 'aliyun.routing.port_80=caller' --label aliyun.depends=web "$IMAGE"
start cache cache v1 --label aliyun.probe.url=tcp://container:6379 -e MODE=tcp -e PORT=6379 "$IMAGE"

say "4. Fairway on http $HTTP, https 127.0.0.1:$HTTPS_PORT and $GATEWAY:80, dns 127.0.0.1:$DNS_PORT and $GATEWAY:53, admin 127.0.0.1:9900"
# `fairway run` watches the engine that DOCKER_HOST names, else /var/run/docker.sock.
"$BIN/certificate" "$RUN/tls" localhost '*.localhost' shop.localhost
printf '[[certificate]]\ncert = "%s/tls/cert.pem"\nkey = "%s/tls/key.pem"\n' "$RUN" "$RUN" >"$RUN/fairway.toml"
"$BIN/fairway" run --config "$RUN/fairway.toml" --https "127.0.0.1:$HTTPS_PORT" --http "$HTTP" --http "$GATEWAY:80" --dns "127.0.0.1:$DNS_PORT" --dns "$GATEWAY:53" \
    --admin 127.0.0.1:9900 --state-dir "$RUN/state" >"$RUN/fairway.log" 2>&1 &
FAIRWAY_PID=$!
ready() {
    kill -0 "$FAIRWAY_PID" 2>/dev/null || die "Fairway ended: $(tail -n 5 "$RUN/fairway.log")"
    curl -fsS -o "$RUN/readyz" "$ADMIN/readyz" 2>/dev/null
}
eventually 30 ready || die "Fairway is not ready: $(tail -n 5 "$RUN/fairway.log")"
instances_ready() { [ "$("$BIN/fairway" instances -o json 2>/dev/null | grep -o '"condition": *"ready"' | wc -l)" -ge 6 ]; }
if eventually 30 instances_ready; then good "six instances ready"; else bad "not every instance became ready"; fi
grep -v ' client=' "$RUN/fairway.log" | cut -c1-150 | head -n 12 | sed 's/^/   | /'
"$BIN/fairway" routes

web() { curl -fsS --max-time 10 -H 'Host: shop.localhost' "http://$HTTP$1"; }
# versions N: of N requests, how many each version answered.
versions() {
    local n=$1 config="$RUN/curl.config" i
    : >"$config"
    for ((i = 0; i < n; i++)); do printf 'url = "http://%s/"\noutput = "-"\n' "$HTTP" >>"$config"; done
    curl -fsS -H 'Host: shop.localhost' -K "$config" >"$RUN/answers" || true
    # grep finding nothing is a count of zero, not a failure.
    V1=$(grep -o '"version": *"v1"' "$RUN/answers" | wc -l) || true
    V2=$(grep -o '"version": *"v2"' "$RUN/answers" | wc -l) || true
}

say "5. a request by Host header, and one over TLS"
echo "   curl -H 'Host: shop.localhost' http://$HTTP/"
if answer=$(web / 2>&1) && [[ $answer == *'"service"'*'"web"'* ]]; then good "${answer:0:110}..."; else bad "answered: $answer"; fi
echo "   curl --cacert cert.pem https://shop.localhost:$HTTPS_PORT/        (self-signed, made for this demo)"
over_tls() { curl -fsS --max-time 10 --cacert "$RUN/tls/cert.pem" --resolve "shop.localhost:$HTTPS_PORT:127.0.0.1" -w ' %{http_version}' "https://shop.localhost:$HTTPS_PORT/"; }
if answer=$(over_tls 2>&1) && [[ $answer == *'"web"'* ]]; then good "HTTP/${answer##* } over TLS: ${answer:0:80}..."; else bad "answered: $answer"; fi

say "6. names"
echo "   dig @127.0.0.1 -p $DNS_PORT shop.local / cache.local"
address=$(dig +short +time=2 +tries=2 @127.0.0.1 -p "$DNS_PORT" shop.local A || true)
[ "$address" = 127.0.0.1 ] && good "shop.local is the proxy: $address" || bad "shop.local: '$address', expected the proxy's address 127.0.0.1"
address=$(dig +short +time=2 +tries=2 @127.0.0.1 -p "$DNS_PORT" cache.local A || true)
cache=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' fairway-demo-cache)
[ "$address" = "$cache" ] && good "cache.local is the container itself: $address" || bad "cache.local: '$address', expected $cache"

say "7. a container calls another by its .local name, through our DNS"
echo "   inside fairway-demo-caller: GET http://shop.local/"
answer=$(curl -fsS --max-time 10 -H 'Host: caller.localhost' "http://$HTTP/call?url=http://shop.local/" 2>&1) || true
if [[ $answer == *'"web"'* ]]; then good "${answer:0:110}..."; else bad "answered: $answer"; fi

say "8. a split moved from 100/0 to 50/50"
"$BIN/fairway" split shop.localhost/ web@v1=100 web@v2=0 --reason "the demo starts"
versions 400
[ "$V1" = 400 ] && [ "$V2" = 0 ] && good "100/0: v1 answered $V1, v2 $V2" || bad "100/0: v1 answered $V1, v2 $V2"
"$BIN/fairway" split shop.localhost/ web@v1=50 web@v2=50 --reason "half and half"
versions 400
# 400 fair draws stay within 200 +- 60 but for one run in a thousand million.
[ "$((V1 + V2))" = 400 ] && [ "$V2" -ge 140 ] && [ "$V2" -le 260 ] && good "50/50: v1 answered $V1, v2 $V2" || bad "50/50: v1 answered $V1, v2 $V2"

say "9. a container killed under load"
"$BIN/load" "http://$HTTP/" --host shop.localhost --connections 8 --rate 500 --duration-ms 6000 >"$RUN/load.json" &
LOAD_PID=$!
sleep 2
docker kill fairway-demo-web-1 >/dev/null && echo "   docker kill fairway-demo-web-1"
wait "$LOAD_PID" || true
count() { grep -o "\"$1\": *[0-9]*" "$RUN/load.json" | head -n 1 | grep -o '[0-9]*$'; }
sent=$(count sent); failed=$(count failed)
if [ "${failed:-1}" = 0 ] && [ "${sent:-0}" -gt 1000 ]; then good "$sent requests, $failed failed"; else bad "${sent:-0} requests, ${failed:-?} failed: $(cat "$RUN/load.json")"; fi

say "10. why a request goes where it goes"
if "$BIN/fairway" explain http://shop.localhost/ >"$RUN/explain"; then sed 's/^/   /' "$RUN/explain"; good "explained"; else bad "fairway explain failed"; fi

if [ "$FAILED" -gt 0 ]; then say "$FAILED step(s) did not show what they should"; else say "every step showed what it should"; fi
[ "${ONCE:-}" = 1 ] && exit "$((FAILED > 0))"

cat <<TXT

It stays up until Ctrl-C. Try in another terminal:
   curl -H 'Host: shop.localhost' http://$HTTP/
   curl --cacert $RUN/tls/cert.pem https://shop.localhost:$HTTPS_PORT/
   $BIN/fairway routes | instances | problems | events --follow
   $BIN/fairway split shop.localhost/ web@v1=90 web@v2=10
   export DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}; docker ps
TXT
wait "$FAIRWAY_PID"
