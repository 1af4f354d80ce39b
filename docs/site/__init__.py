"""Builds the documentation site: ``python -m docs.site``, or ``make docs``.

The pages are the Markdown files of ``docs/``, which read well in any viewer of a repository too. On the way there:

- links to other files of the repository become links to the page of the site that holds what they name;
- ``<!-- include FILE#HEADING -->`` puts the section of another file in the place of the text up to ``<!-- end -->``;
- ``<!-- make NAME ARGUMENTS -->`` puts there what a function of ``docs.site.made`` makes, such as a table of settings;
- formulas between dollar signs are rendered.

A link to a file or heading that does not exist, a page without a title and a marker without an end are errors, and so
is everything that the generator, Zensical in its strict mode, has to say. At the end every address in the built pages
is looked up.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
