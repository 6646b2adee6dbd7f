# The operator's image. Nothing in it but the binary, glibc and CA certificates:
#   docker build --tag registry-grants:0.1.0 .

FROM rust:1.95-bookworm AS builder
WORKDIR /build

# The dependencies, before any of our sources is there: this layer is built anew only when a manifest changes. The C
# compiler that aws-lc-sys needs is in the base image; on x86-64 and ARM64 it does not need CMake.
# The workspace's other member is for the tests; its manifest is here because Cargo.lock covers it as well (--locked).
# rust-toolchain.toml is not: the base image says which compiler.
COPY Cargo.toml Cargo.lock ./
COPY tests/support/Cargo.toml tests/support/
RUN mkdir -p src tests/support/src \
 && echo 'fn main() {}' >src/main.rs \
 && touch src/lib.rs tests/support/src/lib.rs \
 && cargo build --release --locked --package registry-grants --bin registry-grants

# Our sources. COPY keeps their times, which may be older than the stubs just built, and cargo goes by time: without the
# `clean` the image could hold the stub.
COPY src src
RUN cargo clean --release --locked --package registry-grants \
 && cargo build --release --locked --package registry-grants --bin registry-grants

# Bookworm's glibc, as in the builder, and CA certificates; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="registry-grants" \
      org.opencontainers.image.description="Kubernetes operator for cross-account access to private ECR repositories" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=builder /build/target/release/registry-grants /usr/local/bin/registry-grants
# As a number, for runAsNonRoot cannot be checked against a name.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/registry-grants"]
CMD ["controller"]
