# Recipes for people and for CI. `just` alone lists them; each is a command that works without just, too.

default:
    @just --list

# Start an emulated Citrix Cloud and the gateway in front of it
demo *args:
    cargo run --release -- demo {{ args }}

# Format the code
fmt:
    cargo fmt --all

# Fail when the code is not formatted
fmt-check:
    cargo fmt --all --check

# Lint everything, tests included; a warning fails
lint:
    cargo clippy --all-targets --locked -- -D warnings

# Run all tests, or those whose name contains the argument
test *args:
    cargo test {{ args }}

# Lint and test what the feature otlp adds
test-otlp:
    cargo clippy --all-targets --features otlp --locked -- -D warnings
    cargo test --features otlp spans

# Build the documentation of the code; a broken link fails
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

# Licences, banned crates and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny --locked check bans licenses sources

# Known vulnerabilities in the dependencies (needs cargo-deny and a network)
advisories:
    cargo deny --locked check advisories

# Lint the Dockerfile and the shell script (needs hadolint and shellcheck)
lint-files:
    hadolint Dockerfile
    shellcheck .ci/run

# Check alerts, chart, manifests, compose file and unit (needs promtool, helm, kubectl, kubernetes-validate, docker, systemd)
lint-deploy: lint-alerts lint-chart
    kubectl kustomize deploy/kubernetes | kubernetes-validate --strict -
    cd deploy && docker compose config --quiet && docker compose --profile trial config --quiet
    systemd-analyze security --offline=true --threshold=15 --no-pager deploy/systemd/citrix-auth-proxy.service

# Check the alerts and run their tests (needs promtool)
lint-alerts:
    cd deploy/prometheus && promtool check rules alerts.yaml && promtool check config prometheus.yml
    cd deploy/prometheus && promtool test rules alerts.test.yaml

# Check what the chart makes of the least and of the most values (needs helm and kubernetes-validate)
lint-chart chart="deploy/helm/citrix-auth-proxy":
    helm lint --strict {{ chart }} --values {{ chart }}/ci/minimal-values.yaml
    helm lint --strict {{ chart }} --values {{ chart }}/ci/full-values.yaml
    helm template gateway {{ chart }} --values {{ chart }}/ci/minimal-values.yaml | kubernetes-validate --strict -
    helm template gateway {{ chart }} --values {{ chart }}/ci/full-values.yaml > /dev/null

# Build the container image
image tag="citrix-auth-proxy":
    docker build --build-arg COMMIT="$(git rev-parse --short HEAD)" --tag {{ tag }} .

# What a change has to pass
ci: fmt-check lint test test-otlp

# ci, and what takes longer or needs more tools
ci-full: ci doc deny lint-files
