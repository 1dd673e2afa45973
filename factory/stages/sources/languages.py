"""Which programming language a file is in, by its name, its ending or its first line; names as in GitHub's linguist.

A table, not a guess: an ending that several languages share (`.h`, `.m`, `.pl`) has the one most files are in.
"""

import re

_ENDINGS = """
Ada: adb ads ada
Agda: agda
Assembly: asm s nasm
AWK: awk
Batchfile: bat cmd
BibTeX: bib
C: c h
C#: cs csx
C++: cpp cc cxx c++ hpp hh hxx h++ ipp tpp inl
Clojure: clj cljs cljc edn
CMake: cmake
COBOL: cob cbl cpy
CoffeeScript: coffee
Common Lisp: lisp lsp cl asd
Crystal: cr
CSS: css
Cuda: cu cuh
CUE: cue
Cython: pyx pxd pxi
D: d di
Dart: dart
Dhall: dhall
Dockerfile: dockerfile
Elixir: ex exs
Elm: elm
Emacs Lisp: el
Erlang: erl hrl
F#: fs fsi fsx
Fortran: f f77 f90 f95 f03 f08 for
GLSL: glsl vert frag comp geom
Go: go
GraphQL: graphql gql
Groovy: groovy gradle
Haskell: hs lhs
HCL: hcl tf tfvars
HTML: html htm xhtml
Idris: idr
INI: ini cfg conf properties
Java: java
JavaScript: js jsx mjs cjs
JSON: json jsonc json5 geojson
Jsonnet: jsonnet libsonnet
Julia: jl
Jupyter Notebook: ipynb
Kotlin: kt kts
Less: less
Lean: lean
Lua: lua
Makefile: mk mak
Markdown: md markdown mdx
MATLAB: matlab
Mathematica: wl wls nb
Meson: meson
Mojo: mojo
Nim: nim nims
Nix: nix
Objective-C: m
Objective-C++: mm
OCaml: ml mli mll mly
Pascal: pas pp dpr lpr
Perl: pl pm t
PHP: php phtml
PowerShell: ps1 psm1 psd1
Prolog: pro prolog
Protocol Buffer: proto
Python: py pyi pyw
R: r rmd
Racket: rkt
ReasonML: re rei
reStructuredText: rst
Ruby: rb rake gemspec
Rust: rs
Sass: sass
Scala: scala sc sbt
Scheme: scm ss sld
SCSS: scss
Shell: sh bash zsh ksh fish
Smalltalk: st
Solidity: sol
SPARQL: sparql rq
SQL: sql
Standard ML: sml sig fun
Starlark: bzl star
Stata: do ado
Svelte: svelte
Swift: swift
SystemVerilog: sv svh
Tcl: tcl
TeX: tex sty cls ltx
Text: txt
Thrift: thrift
TOML: toml
TypeScript: ts tsx mts cts
Vala: vala vapi
Verilog: v vh
VHDL: vhd vhdl
Vim Script: vim
Visual Basic .NET: vb
Vue: vue
WebAssembly: wat wast
XML: xml xsd xsl xslt
YAML: yml yaml
Yacc: y yy
Zig: zig
"""

_NAMES = """
Makefile: makefile gnumakefile bsdmakefile kbuild
Dockerfile: dockerfile containerfile
CMake: cmakelists.txt
Ruby: rakefile gemfile vagrantfile brewfile podfile guardfile fastfile
Python: sconstruct sconscript wscript
Starlark: build workspace build.bazel workspace.bazel
Groovy: jenkinsfile
Meson: meson.build meson_options.txt
Shell: .bashrc .bash_profile .profile .zshrc configure.ac apkbuild pkgbuild
Just: justfile
Procfile: procfile
Go Module: go.mod
INI: .editorconfig .gitconfig setup.cfg tox.ini
Ignore List: .gitignore .dockerignore
Text: readme license licence copying authors changelog news notice install todo contributors
"""

_PROGRAMS = """
Shell: sh bash zsh dash ksh ash fish
Python: python pypy
Perl: perl
Ruby: ruby
JavaScript: node nodejs
TypeScript: deno ts-node bun
PHP: php
Lua: lua luajit
R: rscript
AWK: awk gawk
Tcl: tclsh wish
Makefile: make
Groovy: groovy
Julia: julia
Haskell: runhaskell stack
OCaml: ocaml
Scala: scala
Elixir: elixir
Racket: racket
"""

_SHEBANG = re.compile(rb"#![ \t]*(\S{1,200})(?:[ \t]+(\S{1,200}))?(?:[ \t]+(\S{1,200}))?")

# What begins a comment, where a language has one that runs to the end of the line; others are written between /* and */.
LINE_COMMENTS = {
    "//": {
        *(
            "C",
            "C++",
            "C#",
            "D",
            "Dart",
            "F#",
            "Go",
            "Groovy",
            "Java",
            "JavaScript",
            "Kotlin",
            "Rust",
            "Scala",
            "Swift",
        ),
        *("TypeScript", "Zig", "PHP"),
    },
    "--": {"Haskell", "Lua", "SQL", "Ada", "Elm"},
    "%": {"MATLAB", "TeX", "Erlang", "Prolog"},
    ";": {"Clojure", "Common Lisp", "Scheme", "Emacs Lisp", "Racket"},
}


def _table(text: str) -> dict[str, str]:
    lines = [line.split(": ", 1) for line in text.strip().split("\n")]
    return {ending: language for language, endings in lines for ending in endings.split()}


_BY_ENDING, _BY_NAME, _BY_PROGRAM = _table(_ENDINGS), _table(_NAMES), _table(_PROGRAMS)


def language_of(path: str, head: bytes = b"") -> str | None:
    """The language of a file with this path whose first bytes are `head`; None where nothing says it."""
    name = path.rsplit("/", 1)[-1].lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    stem, dot, ending = name.rpartition(".")
    if dot and ending in _BY_ENDING:
        return _BY_ENDING[ending]
    if stem in ("dockerfile", "containerfile", "makefile"):
        return _BY_NAME[stem]
    return _by_shebang(head)


def _by_shebang(head: bytes) -> str | None:
    match = _SHEBANG.match(head)
    if match is None:
        return None
    words = [word.decode("ascii", "replace") for word in match.groups() if word]
    program = words[0].rsplit("/", 1)[-1]
    if program == "env":
        program = next((word for word in words[1:] if not word.startswith("-")), "").rsplit("/", 1)[-1]
    return _BY_PROGRAM.get(program) or _BY_PROGRAM.get(program.rstrip("0123456789."))


def line_comment(language: str | None) -> str:
    """What begins a comment line; `#` where the table says nothing else."""
    return next((mark for mark, known in LINE_COMMENTS.items() if language in known), "#")
