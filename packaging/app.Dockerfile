# An application under obit, as an example: docker build -f packaging/app.Dockerfile -t app .
#
# The binary is static: it runs on any base, distroless and scratch too, and needs nothing of it.
ARG OBIT=obit
ARG BASE=debian:12-slim
FROM ${OBIT} AS obit

FROM ${BASE}
COPY --from=obit /obit /sbin/obit
# Reports are kept here; mount a volume on it, and they outlive the container.
COPY --from=obit --chown=65532:65532 /var/lib/obit /var/lib/obit
COPY app /usr/local/bin/app
USER 65532:65532
ENTRYPOINT ["/sbin/obit", "--"]
CMD ["/usr/local/bin/app"]
