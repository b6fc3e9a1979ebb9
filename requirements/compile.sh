#!/bin/sh
# Locks the dependencies, with hashes and without any index address. Run by `make lock`; needs uv on PATH.
#
# The sidecar uses only the protobuf schema inside tritonclient, so numpy and its friends stay out of its
# image: the lock leaves them out and the image installs with --no-deps. So does hf-xet, a second way to download that
# huggingface_hub does not need. fetch.txt is what that image installs; it holds other versions than dev.txt on purpose.
set -eu
cd "$(dirname "$0")"
lock="uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11"
small="--no-emit-package numpy --no-emit-package ml-dtypes --no-emit-package python-rapidjson"
$lock dev.in -o dev.txt
$lock operator.in -c dev.txt -o operator.txt --no-emit-package ml-dtypes --no-emit-package python-rapidjson
$lock agent.in -c dev.txt -o agent.txt
$lock fetch.in -o fetch.txt $small --no-emit-package hf-xet
$lock bench.in -o bench.txt
