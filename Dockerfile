# syntax=docker/dockerfile:1
# Build:  docker build -t forwarder .
# Run:    docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#           -v forwarder:/var/lib/forwarder -v ./forwarder.toml:/etc/forwarder/forwarder.toml:ro \
#           --network container:APP forwarder
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# The build backend alone is taken from the development lock file: nothing unpinned, nothing that is not needed.
RUN awk '/^setuptools==/ { found = 1 } found { print; if (!/\\$/) exit }' requirements-dev.lock > build.lock \
 && python3 -m venv /build \
 && /build/bin/pip install --quiet --require-hashes -r build.lock \
 && python3 -m venv --without-pip /opt/forwarder \
 && /build/bin/pip --python /opt/forwarder/bin/python install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY forwarder forwarder
# Compiled here: the root file system is read-only at run time.
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/forwarder/bin/python install --quiet --no-deps --no-index /wheel/*.whl \
 && /opt/forwarder/bin/python -m compileall -q /opt/forwarder/lib \
 && install -d -o 65532 -g 65532 -m 0700 /state

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="forwarder" \
      org.opencontainers.image.description="Localhost in, analytics out, nothing lost" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/forwarder /opt/forwarder
COPY --from=build --chown=65532:65532 /state /var/lib/forwarder
USER 65532:65532
ENV PATH=/opt/forwarder/bin:$PATH PYTHONDONTWRITEBYTECODE=1 STATE_DIRECTORY=/var/lib/forwarder
VOLUME /var/lib/forwarder
EXPOSE 8765/tcp 8765/udp 8766/tcp
STOPSIGNAL SIGTERM
# Asks the daemon over its control socket: unhealthy when it does not answer or cannot accept events.
# The check ends by itself before its time is over: some engines do not count one that they had to end.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["forwarder", "status", "--json", "--timeout", "3"]
# No shell at run time; the process is PID 1, reaps nothing because it starts nothing, and drains on SIGTERM.
ENTRYPOINT ["forwarder"]
CMD ["run"]
