# Recipes for contributors and CI. `just` lists them; each is a command that also works without just.

default:
    @just --list

# Start an emulated Citrix Cloud and the gateway in front of it
demo *args:
    cargo run -- demo {{ args }}

# Build with the optimizations that need no profile: target/dist/citrix-auth-proxy, which CI measures
dist:
    cargo build --profile dist --locked --package citrix-auth-proxy

# Build the binary of `just dist` twice, in two folders, and compare the results
reproducible *args:
    .ci/reproducible {{ args }}

# Build what is shipped: target/pgo/citrix-auth-proxy, with a profile of training traffic (needs rustup's llvm-tools)
pgo *args:
    .ci/pgo {{ args }}

# Format the code
fmt:
    cargo fmt --all

# Fail if the code is not formatted
fmt-check:
    cargo fmt --all --check

# Lint everything, tests included; warnings fail
lint:
    cargo clippy --all-targets --locked -- -D warnings

# Run all tests, or those whose name contains the argument
test *args:
    cargo test --locked {{ args }}

# Check alerts, their tests and the metrics of a running demo with promtool (downloads it from Debian if it is missing)
promtool: dist
    .ci/promtool

# Fail if a request takes more instructions than its budget in benches/instructions (needs valgrind)
instructions *args: dist
    cargo bench --profile dev --locked --bench instructions {{ args }}

# Record the instructions that requests take as their budgets (needs valgrind)
budgets: dist
    cargo bench --profile dev --locked --bench instructions -- --update

# Measure several replicas with a real store: all cases, or those whose names begin with the arguments (needs redis-server)
fleet *args: dist
    cargo bench --profile dev --locked --bench fleet -- {{ args }}

# Send accounted traffic with a fault every second, for a minute or as long as `--for` says (needs redis-server)
soak *args: dist
    GATEWAY=target/dist/citrix-auth-proxy cargo bench --profile dev --locked --bench soak -- {{ args }}

# Measure the gateway beyond its capacity, on a machine that does nothing else
overload: dist
    GATEWAY=target/dist/citrix-auth-proxy cargo bench --profile dev --locked --bench soak -- overload

# Build the rustdoc; broken links fail
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

# Check licences, bans and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny --locked check bans licenses sources

# Check the dependencies for known vulnerabilities (needs cargo-deny and network access)
advisories:
    cargo deny --locked check advisories

# Lint the Dockerfile and the shell scripts (needs hadolint and shellcheck)
lint-files:
    hadolint Dockerfile
    shellcheck .ci/run .ci/promtool .ci/pgo .ci/reproducible .ci/packages deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm

# Check the chart, manifests, compose file and unit (needs helm, kubectl, kubernetes-validate, docker and systemd)
lint-deploy: lint-chart
    kubectl kustomize deploy/kubernetes | kubernetes-validate --strict -
    cd deploy && docker compose config --quiet && docker compose --profile trial --profile fleet config --quiet
    systemd-analyze security --offline=true --threshold=15 --no-pager deploy/systemd/citrix-auth-proxy.service

# Check the chart with minimal and with full values (needs helm and kubernetes-validate)
lint-chart chart="deploy/helm/citrix-auth-proxy":
    helm lint --strict {{ chart }} --values {{ chart }}/ci/minimal-values.yaml
    helm lint --strict {{ chart }} --values {{ chart }}/ci/full-values.yaml
    helm template gateway {{ chart }} --values {{ chart }}/ci/minimal-values.yaml | kubernetes-validate --strict -
    helm template gateway {{ chart }} --values {{ chart }}/ci/full-values.yaml > /dev/null

# Build target/debian/*.deb and target/generate-rpm/*.rpm of the static binary of the releases (needs cargo-deb, cargo-generate-rpm, and what pgo needs)
packages target=(arch() + "-unknown-linux-musl"): (pgo target)
    .ci/packages

# Install the .deb in a Debian container and check the configuration that it contains (needs docker)
packages-check:
    docker run --rm --volume "$PWD/target/debian:/packages:ro" debian:stable-slim sh -ec 'apt-get update -q; apt-get install -qy --no-install-recommends /packages/*.deb; citrix-auth-proxy --version; CITRIX_CLIENT_SECRET=x citrix-auth-proxy check --config /etc/citrix-auth-proxy/config.toml; test -e /usr/lib/systemd/system/citrix-auth-proxy.service -a -e /usr/share/man/man1/citrix-auth-proxy.1.gz; apt-get purge -qy citrix-auth-proxy; test ! -e /usr/bin/citrix-auth-proxy -a ! -e /etc/citrix-auth-proxy'

# Build the container image (needs docker)
image tag="citrix-auth-proxy":
    docker build --build-arg COMMIT="$(git rev-parse --short HEAD)" --tag {{ tag }} .

# Start the image on a read-only file system; without a configuration it exits with 64 (needs docker)
image-check tag="citrix-auth-proxy":
    docker run --rm --read-only {{ tag }} check || test $? -eq 64

# What every change has to pass; `.ci/run` runs the same on a machine with nothing but Rust
ci: fmt-check lint test dist promtool instructions

# Everything that the workflow `ci` runs
ci-full: ci doc deny advisories lint-files image image-check lint-deploy packages packages-check
