# One image for every role; compose.yaml says which. Nothing in it needs root, and nothing is
# written outside /var/lib/movies and /tmp.
FROM python:3.11-slim-bookworm AS build
COPY requirements.txt /build/requirements.txt
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r /build/requirements.txt

FROM python:3.11-slim-bookworm
# Skia needs OpenGL's libraries, even where nothing is shown.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libegl1 libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /var/lib/movies --create-home movies
COPY --from=build /venv /venv
COPY manage.py /app/
COPY moviesvc /app/moviesvc
COPY tasks_app /app/tasks_app
COPY webhooks_app /app/webhooks_app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=moviesvc.settings VAR_DIR=/var/lib/movies EMBEDDED=off
USER movies
EXPOSE 8001
CMD ["python", "manage.py", "run", "--role", "web"]
