"""Make asv's site work without a network: `python -m asv_bench.vendor SITE`.

asv's pages load their libraries from content delivery networks. npm fetches the same versions once, they
are copied into the site, and the pages are pointed at the copies. Nothing fetched is kept in the repository.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = {
    "jquery": "3.3.1",
    "flot": "0.8.3",
    "flot-orderbars": "1.0.0",
    "stupid-table-plugin": "1.1.3",
    "blueimp-md5": "2.19.0",
    "bootstrap": "3.1.1",
}
"""What asv 0.6.6 loads, by its name in npm."""

FILES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
"""The last part of an address in asv's pages → the file in npm's folder."""

_TAG = re.compile(
    r"""(?P<attribute>src|href)\s*=\s*"https?://[^"]*/(?P<name>[^"/]+\.(?:js|css))"(?P<rest>[^>]*)>"""
)


class VendorError(RuntimeError):
    """The site cannot be made to work without a network."""


def point_at_copies(page: str) -> str:
    """A page with its libraries' addresses replaced; what guarded the remote ones is dropped.

    Raises:
        VendorError: if the page asks for a library that is not known here.
    """

    def local(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in FILES:
            raise VendorError(
                f"asv's page asks for {name}, which asv_bench/vendor.py does not know; add it"
            )
        rest = re.sub(
            r"\s*(?:integrity|crossorigin|referrerpolicy)\s*=\s*\"[^\"]*\"", "", match["rest"]
        )
        return f'{match["attribute"]}="vendor/{name}"{rest}>'

    return _TAG.sub(local, page)


def fetch(folder: Path) -> None:
    """Let npm put the packages into a folder.

    Raises:
        VendorError: if npm is missing, or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise VendorError("npm must be installed to build the site once; install Node.js")
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    flags = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    done = subprocess.run(
        [npm, "install", *flags, *wanted], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise VendorError(f"npm could not fetch asv's libraries: {done.stderr.strip()[-800:]}")


def vendor(site: Path) -> int:
    """Copy the libraries into a site and point its pages at them.

    Returns:
        How many pages were changed.

    Raises:
        VendorError: if there is no site, npm fails, or a library is missing.
    """
    if not (site / "index.html").is_file():
        raise VendorError(
            f"there is no site at {site}: run `make asv-publish`, which builds it first"
        )
    copies = site / "vendor"
    copies.mkdir(exist_ok=True)
    if any(not (copies / name).is_file() for name in FILES):
        with tempfile.TemporaryDirectory() as folder:
            fetch(Path(folder))
            for name, source in FILES.items():
                path = Path(folder) / "node_modules" / source
                if not path.is_file():
                    raise VendorError(
                        f"npm's {source} is not where it was; look for it and mend FILES"
                    )
                shutil.copyfile(path, copies / name)
    changed = 0
    for page in sorted(site.glob("*.html")):
        before = page.read_text(encoding="utf-8")
        after = point_at_copies(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            changed += 1
    return changed


def main() -> int:
    """The command."""
    try:
        changed = vendor(Path(sys.argv[1]))
    except VendorError as error:
        print(f"asv_bench.vendor: {error}", file=sys.stderr)
        return 1
    print(f"{changed} pages point at their own copies of {len(FILES)} libraries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
