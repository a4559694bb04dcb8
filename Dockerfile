# syntax=docker/dockerfile:1
# The gateway in an image without a shell. Both stages are Debian 13, so the C library matches. Nothing depends on the
# architecture: amd64 and arm64 images are built natively or emulated.

FROM rust:1.95-trixie AS manifests
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY crates crates
# Empty every source file. What is left changes only with a manifest, the lock file or the name of a file.
RUN find benches crates -type f ! -name Cargo.toml -exec truncate --size=0 {} + \
    && mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs

FROM rust:1.95-trixie AS builder
# Embeds the list of crates in the binary, for image scanners and SBOM tools; merges the profile.
RUN cargo install --locked cargo-auditable@0.7.7 \
    && rustup component add llvm-tools
ENV BUILD="cargo auditable build"
WORKDIR /src
COPY .ci/pgo .ci/pgo
# The instrumented dependencies alone, cached until that changes.
COPY --from=manifests /src .
RUN .ci/pgo instrument
COPY crates crates
COPY build.rs ./
# `config show` reads the defaults in it.
COPY config.toml.example ./
# The admin listener serves them.
COPY docs/runbooks.md docs/
COPY src src
# The commit in `--version` and the metric build_info: `--build-arg COMMIT=$(git rev-parse --short HEAD)`.
ARG COMMIT=unknown
# Cargo compares modification times, and copied files may be older than the empty targets. Debug sections are three
# quarters of the binary; the symbols that backtraces need are not among them.
RUN find src crates -name '*.rs' -exec touch {} + \
    && CITRIX_AUTH_PROXY_COMMIT="$COMMIT" .ci/pgo \
    && objcopy --strip-debug target/pgo/citrix-auth-proxy

# Has libc, libm, libgcc_s and the root certificates.
FROM gcr.io/distroless/cc-debian13:nonroot
ARG COMMIT=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="citrix-auth-proxy" \
      org.opencontainers.image.description="An authenticating reverse proxy for the Citrix Cloud REST APIs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian13:nonroot"
COPY --from=builder /src/target/pgo/citrix-auth-proxy /citrix-auth-proxy
# Numeric, because Kubernetes' runAsNonRoot rejects names.
USER 65532:65532
# The listeners for callers and operators, by default on loopback only: see docs/deploy.md.
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/citrix-auth-proxy", "healthcheck"]
ENTRYPOINT ["/citrix-auth-proxy"]
