# The target site: it holds no source_site at all. Build from the top of the project:
#   docker build -f deploy/containers/target.Dockerfile -t ecan-target .
# For the CPU build of torch, add the index that the README names: --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY ecan_core ecan_core
COPY protocol protocol
COPY target_site target_site
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
ARG PIP_EXTRA_INDEX_URL
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl \
 && rm -r /wheels /usr/local/bin/ecan-source \
 && groupadd --gid 10001 ecan \
 && useradd --uid 10001 --gid ecan --no-create-home --shell /usr/sbin/nologin ecan \
 && install --directory --owner ecan --group ecan --mode 0700 /data/keys /data/bundle /data/model
# A new volume takes its owner from the folder that it is mounted over.
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["ecan-target"]
CMD ["--help"]
