# syntax=docker/dockerfile:1
# Build:  docker build -t forwarder .
# Run:    docker run --read-only -v forwarder:/var/lib/forwarder \
#           -v ./forwarder.toml:/etc/forwarder/forwarder.toml:ro -p 127.0.0.1:8765:8765 forwarder
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# The build backend comes from the development lock file, so that nothing unpinned is fetched.
RUN python3 -m venv /build \
 && /build/bin/pip install --quiet --require-hashes -r requirements-dev.lock \
 && python3 -m venv --without-pip /opt/forwarder \
 && /build/bin/pip --python /opt/forwarder/bin/python install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY forwarder forwarder
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/forwarder/bin/python install --quiet --no-deps --no-index /wheel/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="forwarder" \
      org.opencontainers.image.description="Localhost in, analytics out, nothing lost" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/forwarder /opt/forwarder
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/forwarder
USER 65532:65532
ENV PATH=/opt/forwarder/bin:$PATH PYTHONDONTWRITEBYTECODE=1 STATE_DIRECTORY=/var/lib/forwarder
VOLUME /var/lib/forwarder
EXPOSE 8765/tcp 8765/udp 8766/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["forwarder", "status", "--json"]
ENTRYPOINT ["forwarder"]
CMD ["run"]
