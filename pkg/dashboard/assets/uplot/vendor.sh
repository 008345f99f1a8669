#!/bin/sh
# Fetches uPlot of the version that is given from npm into this folder.
set -eu
cd "$(dirname "$0")"
version=${1:?usage: ./vendor.sh VERSION}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "uplot@$version" && tar xzf "uplot-$version.tgz")
cp "$work/package/dist/uPlot.iife.min.js" "$work/package/dist/uPlot.min.css" "$work/package/LICENSE" .
sha256sum uPlot.iife.min.js uPlot.min.css LICENSE >SHA256SUMS
