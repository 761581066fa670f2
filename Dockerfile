# BMP with the extras lite, video, heic and web, for photos, films and bmp serve: docker build -t bmp .
# With CUDA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126, and docker run --gpus all.
FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir hatchling==1.33.0 && python -m hatchling build -t wheel -d /wheel

FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# PyTorch comes from the index of its kind, all else from the usual one; the wheel says which versions it takes.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" \
    "torch>=2.6" "torchvision>=0.21"
COPY --from=wheel /wheel /wheel
# hadolint ignore=DL3013
RUN wheel="$(ls /wheel/*.whl)" && pip install --no-cache-dir "${wheel}[lite,video,heic,web]" \
    && useradd --create-home --uid 1000 bmp && mkdir -p /data /home/bmp/.cache && chown bmp /data /home/bmp/.cache
USER 1000
WORKDIR /data
# Says whether the program is whole; bmp serve may listen at any port, so there is none to ask.
HEALTHCHECK --interval=5m --timeout=1m --start-period=1m CMD ["bmp", "doctor"]
ENTRYPOINT ["bmp"]
CMD ["--help"]
