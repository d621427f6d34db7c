package corefile

import (
	"fmt"
	"strings"
)

// token is a word of a Corefile.
type token struct {
	text   string
	file   string
	line   int
	quoted bool
}

// lex cuts text into words: blanks part them, double quotes or backquotes hold blanks, # at the start of a word begins a comment, and a
// backslash at the end of a line takes its end away.
func lex(file, text string) (out []token, err error) {
	var (
		word   strings.Builder
		inWord bool
		start  int
		line   = 1
	)
	end := func(quoted bool) {
		if inWord {
			out = append(out, token{word.String(), file, start, quoted})
		}
		word.Reset()
		inWord = false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case !inWord && (c == '"' || c == '`'):
			start = line
			closed := false
			for i++; i < len(text); i++ {
				if c == '"' && text[i] == '\\' && i+1 < len(text) && text[i+1] == '"' {
					i++
				} else if text[i] == c {
					closed = true
					break
				}
				if text[i] == '\n' {
					line++
				}
				word.WriteByte(text[i])
			}
			if !closed {
				return nil, fmt.Errorf("%s:%d: a quote is not closed", file, start)
			}
			inWord = true
			end(true)
		case c == '\n':
			end(false)
			line++
		case c == ' ' || c == '\t' || c == '\r':
			end(false)
		case c == '\\' && i+1 < len(text) && text[i+1] == '\n':
			end(false)
			i++ // the line goes on
		case c == '#' && !inWord:
			for i < len(text) && text[i] != '\n' {
				i++
			}
			i--
		default:
			if !inWord {
				inWord, start = true, line
			}
			word.WriteByte(c)
		}
	}
	end(false)
	return out, nil
}
