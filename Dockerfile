# syntax=docker/dockerfile:1
# The gateway in an image without a shell. Both stages are Debian 13, so the C library matches. Each is there for amd64 and
# arm64, and nothing here is particular to either: an image is built on a machine of its own kind, or emulated.

FROM rust:1.95-trixie AS builder
# Writes the list of crates into the binary, where scanners of images, and those who make SBOMs, find it.
RUN cargo install --locked cargo-auditable@0.7.7
WORKDIR /src
# First the dependencies alone, for an empty program: this layer is built again only when one of them changes.
COPY Cargo.toml Cargo.lock ./
# Cargo wants every target that the manifest names, though none of these is built.
COPY benches benches
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo auditable build --release --locked \
    && rm -r src
COPY src src
# What build_info in /metrics says; `--build-arg COMMIT=$(git rev-parse --short HEAD)`.
ARG COMMIT=unknown
# Copied files may be older than the empty program; cargo goes by their times.
RUN touch src/lib.rs src/main.rs \
    && CITRIX_AUTH_PROXY_COMMIT="$COMMIT" cargo auditable build --release --locked

# libc, libm, libgcc_s and the root certificates; nothing else is needed.
FROM gcr.io/distroless/cc-debian13:nonroot
ARG COMMIT=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="citrix-auth-proxy" \
      org.opencontainers.image.description="An authenticating reverse proxy for the Citrix Cloud REST APIs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian13:nonroot"
COPY --from=builder /src/target/release/citrix-auth-proxy /citrix-auth-proxy
# A number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532
# Callers, and operators. Both are loopback by default: see "A container" in docs/deploy.md.
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/citrix-auth-proxy", "healthcheck"]
ENTRYPOINT ["/citrix-auth-proxy"]
