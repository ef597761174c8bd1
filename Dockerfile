# Build: everything that needs pip and the sources stays in this stage.
FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY core core
RUN python -m venv /opt/promotion-bot \
 && /opt/promotion-bot/bin/pip install -c constraints.txt .

# Run: the virtual environment, a user without rights, and nothing else.
FROM python:3.12-slim
LABEL org.opencontainers.image.title="promotion-bot" \
      org.opencontainers.image.description="The promotion desk for machine-learning models, in Slack" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/promotion-bot promotion-bot
COPY --from=build /opt/promotion-bot /opt/promotion-bot
ENV PATH=/opt/promotion-bot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROMOTION_BOT_DATA=/var/lib/promotion-bot
USER 10001
WORKDIR /var/lib/promotion-bot
VOLUME /var/lib/promotion-bot
STOPSIGNAL SIGTERM
CMD ["promotion-bot", "run"]
