"""Compiles an example within a template of tests/docs/examples: for the tests of headers and of guides."""
import os
import subprocess

TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "examples")
PLACE = "@EXAMPLE@\n"


def in_template(template, example):
    with open(os.path.join(TEMPLATES, template)) as file:
        before, after = file.read().split(PLACE)
    return before + example + after


def complaint_of(compiler, text, template, include_directories):
    """What the compiler says against `text`; "": nothing. Its language is that of the template's name."""
    language = ["-xc", "-std=c99"] if template.endswith(".c") else ["-xc++", "-std=c++20"]
    result = subprocess.run(
        [compiler, *language, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable",
         "-Wno-unused-but-set-variable", "-Wno-missing-field-initializers",
         *(f"-I{directory}" for directory in include_directories), "-"],
        input=text, text=True, capture_output=True)
    return result.stderr if result.returncode != 0 else ""
