# The operator's image. It contains only the binary, glibc and CA certificates. Build it with:
#   docker build --tag registry-grants:0.1.0 .

FROM rust:1.95-bookworm AS builder
WORKDIR /build

# Builds the dependencies without our sources, so that this layer is rebuilt only when a manifest changes. The base image has
# the C compiler that aws-lc-sys needs. On x86-64 and ARM64, aws-lc-sys does not need CMake.
# The workspace's other members are for tests. Their manifests are needed because Cargo.lock also covers it (--locked).
# rust-toolchain.toml is not copied: the base image determines the compiler.
COPY Cargo.toml Cargo.lock ./
COPY tests/support/Cargo.toml tests/support/
COPY tests/simulation/Cargo.toml tests/simulation/
RUN mkdir -p src tests/support/src tests/simulation/src \
 && echo 'fn main() {}' >src/main.rs \
 && touch src/lib.rs tests/support/src/lib.rs tests/simulation/src/lib.rs \
 && cargo build --release --locked --package registry-grants --bin registry-grants

# Builds our sources. COPY keeps their modification times, which may be older than the stubs above. cargo compares times, so
# without `clean` the image could contain the stub.
COPY src src
RUN cargo clean --release --locked --package registry-grants \
 && cargo build --release --locked --package registry-grants --bin registry-grants

# Has Bookworm's glibc, like the builder, and CA certificates, but no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="registry-grants" \
      org.opencontainers.image.description="Kubernetes operator for cross-account access to private ECR repositories" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=builder /build/target/release/registry-grants /usr/local/bin/registry-grants
# A number, because runAsNonRoot cannot be checked for a name.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/registry-grants"]
CMD ["controller"]
