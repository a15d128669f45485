"""What MkDocs asks while it builds the site (mkdocs.yml names this file).

Pages link to files by their places in the repository, so that links work where the code is
read. In the site docs/ is the root; what pages link to outside of it is taken in under its own
path, and the links are rewritten: ``../results/toybox.csv`` to ``results/toybox.csv``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs/"
#: Pages outside of docs/ that the site always has.
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")
#: The theme's text fonts, which docs/site.css doesn't use, and icons in formats of old browsers.
UNUSED = re.compile(r"css/fonts/(?!fontawesome-webfont\.woff2)")
_LINK = re.compile(r"(\]\()([^)\s#:]+)(?=[)#])")


def site_path(repo_path: str) -> str:
    """Where a file of the repository lies in the site."""
    if repo_path == "README.md":
        return "readme.md"  # MkDocs takes README.md for the front page
    return repo_path.removeprefix(DOCS)


def repo_path(uri: str) -> str:
    """The reverse: the file of the repository that a page of the site is."""
    if uri == "readme.md":
        return "README.md"
    return DOCS + uri if (ROOT / DOCS / uri).is_file() else uri


def targets(markdown: str, page: str) -> Iterator[str]:
    """The files of the repository that a page of it links to."""
    for match in _LINK.finditer(markdown):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))


def rewritten(markdown: str, page: str) -> str:
    """The page with its links as they are in the site."""
    here = posixpath.dirname(site_path(page))

    def link(match: re.Match[str]) -> str:
        at = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))
        return match[1] + posixpath.relpath(site_path(at), here or ".")

    return _LINK.sub(link, markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Leave the theme's unused fonts out, and take in what pages link to outside of docs/."""
    for file in [f for f in files if UNUSED.match(f.src_uri)]:
        files.remove(file)
    open_pages = [*(repo_path(f.src_uri) for f in files.documentation_pages()), *PAGES]
    taken = set(open_pages)
    for name in PAGES:
        add(files, config, name)
    while open_pages:
        page = open_pages.pop()
        for target in targets((ROOT / page).read_text("utf-8"), page):
            if target in taken or target.startswith(DOCS) or not (ROOT / target).is_file():
                continue  # what isn't there MkDocs complains of
            taken.add(target)
            add(files, config, target)
            open_pages += [target] if target.endswith(".md") else []
    return files


def add(files: Files, config: MkDocsConfig, name: str) -> None:
    """One file of the repository into the site."""
    files.append(File.generated(config, site_path(name), abs_src_path=str(ROOT / name)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's links as they are in the site."""
    return rewritten(markdown, repo_path(page.file.src_uri))
