package capture

import (
	"encoding/json"
	"strings"
)

// world is the name of the world that scripts of ours run in: they see the
// page's document, and the page sees nothing of them.
const world = "tintype"

// code is an argument that is a script of ours.
type code string

// calling is the expression that calls script with args. But for code they are
// written as JSON, which is data in the language and nothing else (ECMA-262,
// 2019).
func calling(script string, args ...any) string {
	texts := make([]string, len(args))
	for i, arg := range args {
		if c, ok := arg.(code); ok {
			texts[i] = strings.TrimSpace(string(c))
			continue
		}
		b, err := json.Marshal(arg)
		if err != nil {
			panic("capture: an argument that JSON cannot hold: " + err.Error())
		}
		texts[i] = string(b)
	}
	return "(" + strings.TrimSpace(script) + ")(" + strings.Join(texts, ",") + ")"
}
