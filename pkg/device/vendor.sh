#!/bin/sh
# Writes devices.json anew from the npm package playwright-core, whose licence
# is in NOTICE. Needs npm and Node. Usage: sh pkg/device/vendor.sh
set -eu
version=1.65.1
sum=6f5a60be62a4fddfbe7d10c448d8fbd54547da3358f2f8a04211440471ee863e

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "playwright-core@$version" >/dev/null
echo "$sum  playwright-core-$version.tgz" | sha256sum -c --quiet
tar xzf "playwright-core-$version.tgz"
node -e '
	const devices = require("./package").devices;
	const lines = Object.entries(devices).map(([name, d]) => JSON.stringify({
		name, user_agent: d.userAgent, width: d.viewport.width, height: d.viewport.height,
		screen_width: d.screen?.width, screen_height: d.screen?.height,
		device_scale_factor: d.deviceScaleFactor, mobile: d.isMobile, touch: d.hasTouch,
	}));
	process.stdout.write("[\n" + lines.join(",\n") + "\n]\n");
' >"$here/devices.json"
cp package/LICENSE "$here/LICENSE"
