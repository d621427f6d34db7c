package corefile

import (
	"fmt"
	"slices"
	"strings"
)

// Block is one server block: the zones that it is for, and its directives.
type Block struct {
	Keys       []string
	File       string
	Line       int
	Directives []Directive
}

// Directive is one line of a block: a plugin's name and arguments, and the lines in its braces, which have no braces themselves.
type Directive struct {
	Name string
	Args []string
	File string
	Line int
	Body []Directive
}

func (d Directive) where() string { return printable(fmt.Sprintf("%s:%d", d.File, d.Line)) }

// Text is one file.
type Text struct{ Name, Text string }

// Files gives the files that an import's pattern means, in order of their names; none is no error if the pattern has wildcards.
type Files func(pattern string) ([]Text, error)

// maxImports bounds how many imports there may be, so that files that import one another end.
const maxImports = 100

// maxTokens bounds how long a Corefile may become by its imports.
const maxTokens = 100_000

type parser struct {
	tokens   []token
	at       int
	files    Files
	snippets map[string][]token
	imports  int
	used     int
	skipped  []Directive // imports of patterns that nothing matched
}

// Parse reads a Corefile. Snippets and imported files are put in their place. name is how errors call it; files may be nil, and then
// nothing can be imported but snippets.
func Parse(name, text string, files Files) ([]Block, error) {
	blocks, _, err := parse(name, text, files)
	return blocks, err
}

func parse(name, text string, files Files) ([]Block, []Directive, error) {
	tokens, err := lex(name, text)
	if err != nil {
		return nil, nil, err
	}
	p := &parser{tokens: tokens, files: files, snippets: map[string][]token{}}
	var out []Block
	for p.at < len(p.tokens) {
		b, err := p.block()
		if err != nil {
			return nil, nil, err
		}
		if b != nil {
			out = append(out, *b)
		}
	}
	return out, p.skipped, nil
}

func (p *parser) more() bool { return p.at < len(p.tokens) }

func (p *parser) is(s string) bool {
	return p.more() && !p.tokens[p.at].quoted && p.tokens[p.at].text == s
}

func fault(t token, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", t.file, t.line, fmt.Sprintf(format, args...))
}

// block reads one server block; nil for a snippet or an import, which leave nothing behind by themselves.
func (p *parser) block() (*Block, error) {
	first := p.tokens[p.at]
	if p.is("import") {
		p.at++
		return nil, p.expand(first, p.rest(first))
	}
	b := &Block{File: first.file, Line: first.line}
	for p.more() && !p.is("{") {
		t := p.tokens[p.at]
		if t.text == "}" && !t.quoted {
			return nil, fault(t, "a } without a {")
		}
		if env(t) {
			return nil, fault(t, "%s: give its value in the place of the environment variable", t.text)
		}
		for _, key := range strings.Split(t.text, ",") {
			if key != "" {
				b.Keys = append(b.Keys, key)
			}
		}
		p.at++
		// Without braces a block is one line of keys and then directives up to the end: nobody writes that for a cluster.
	}
	if !p.more() {
		return nil, fault(first, "the zones have no { behind them")
	}
	open := p.tokens[p.at]
	p.at++
	if len(b.Keys) == 1 && strings.HasPrefix(first.text, "(") && strings.HasSuffix(first.text, ")") {
		body, err := p.braced(open)
		p.snippets[strings.Trim(first.text, "()")] = body
		return nil, err
	}
	if len(b.Keys) == 0 {
		return nil, fault(open, "a { without zones in front of it")
	}
	var err error
	b.Directives, err = p.directives(open, true)
	return b, err
}

func env(t token) bool {
	return strings.Contains(t.text, "{$") || strings.Contains(t.text, "{%")
}

// braced gives the words up to the brace that closes the one that was just read.
func (p *parser) braced(open token) ([]token, error) {
	start, depth := p.at, 1
	for ; p.more(); p.at++ {
		if p.is("{") {
			depth++
		} else if p.is("}") {
			if depth--; depth == 0 {
				p.at++
				return slices.Clone(p.tokens[start : p.at-1]), nil
			}
		}
	}
	return nil, fault(open, "the { is not closed")
}

// rest reads the words up to the end of the line of t, or to a brace.
func (p *parser) rest(t token) (out []token) {
	for p.more() && p.tokens[p.at].line == t.line && p.tokens[p.at].file == t.file && !p.is("{") && !p.is("}") {
		out = append(out, p.tokens[p.at])
		p.at++
	}
	return out
}

// directives reads lines up to the brace that closes the one that was just read. Only the outer ones have braces.
func (p *parser) directives(open token, outer bool) (out []Directive, err error) {
	for {
		if !p.more() {
			return nil, fault(open, "the { is not closed")
		}
		t := p.tokens[p.at]
		p.at++
		if t.text == "}" && !t.quoted {
			return out, nil
		}
		if t.text == "{" && !t.quoted {
			return nil, fault(t, "a { without a plugin in front of it")
		}
		rest := p.rest(t)
		if outer && t.text == "import" && !t.quoted {
			if err := p.expand(t, rest); err != nil {
				return nil, err
			}
			continue
		}
		d := Directive{Name: t.text, File: t.file, Line: t.line}
		for _, a := range append([]token{t}, rest...) {
			if env(a) {
				return nil, fault(a, "%s: give its value in the place of the environment variable", a.text)
			}
		}
		for _, a := range rest {
			d.Args = append(d.Args, a.text)
		}
		if p.is("{") {
			brace := p.tokens[p.at]
			if brace.line != t.line || brace.file != t.file {
				return nil, fault(brace, "a { stands on the line of its plugin")
			}
			if !outer {
				return nil, fault(brace, "%s: braces within a plugin's braces", t.text)
			}
			p.at++
			if d.Body, err = p.directives(brace, false); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
}

// expand puts what an import means in its place.
func (p *parser) expand(t token, args []token) error {
	if len(args) == 0 {
		return fault(t, "import: of what?")
	}
	if p.imports++; p.imports > maxImports {
		return fault(t, "import: more than %d of them; do they import one another?", maxImports)
	}
	what := args[0].text
	body, ok := p.snippets[what]
	switch {
	case ok && len(args) > 1:
		for i := range body {
			if strings.Contains(body[i].text, "{args") {
				return fault(t, "import %s: arguments of snippets are not read; write the snippet out", what)
			}
		}
	case !ok:
		if p.files == nil {
			return fault(t, "import %s: there is no snippet of that name", what)
		}
		texts, err := p.files(what)
		if err != nil {
			return fault(t, "import %s: %v", what, err)
		}
		if len(texts) == 0 {
			p.skipped = append(p.skipped, Directive{Name: "import", Args: []string{what}, File: t.file, Line: t.line})
		}
		for _, f := range texts {
			more, err := lex(f.Name, f.Text)
			if err != nil {
				return err
			}
			body = append(body, more...)
		}
	}
	if p.used += len(body); p.used > maxTokens {
		return fault(t, "import %s: the Corefile becomes too long", what)
	}
	p.tokens = slices.Concat(body, p.tokens[p.at:])
	p.at = 0
	return nil
}
