# One image for every command: `docker run tenantwatch:local worker`.
#
# No Docker runs where this was written, so nobody has built it yet. What stands in for that: the two pip
# commands were run in an empty virtual environment on Python 3.11, and tests/test_deploy.py compares what is
# copied with what pyproject.toml packs.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

# Alone in its layer: it is large and changes seldom.
COPY requirements/runtime.txt /build/requirements.txt
RUN pip install --require-hashes -r /build/requirements.txt

# .dockerignore lets only the packages and their metadata through.
COPY . /build/source
RUN pip install --no-deps --no-build-isolation /build/source && rm -r /build

# The folders exist before a volume covers them, so that the volumes belong to this user.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/tenantwatch tenantwatch \
    && install --directory --owner=tenantwatch --mode=0700 /var/lib/tenantwatch-keys
USER tenantwatch
WORKDIR /var/lib/tenantwatch
ENV TENANTWATCH_DATA_DIR=/var/lib/tenantwatch

EXPOSE 8080 8081
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('TENANTWATCH_HTTP_PORT', '8080') + '/healthz', timeout=4)"]

ENTRYPOINT ["tenantwatch"]
CMD ["--help"]
