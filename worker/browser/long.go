package browser

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strconv"
)

// Bounds of one message of the browser. A page decides how long some are: by a
// title, an address, what it writes to its console. What is longer is read to its
// end, since another message follows, and not kept.
const (
	// maxAnswer is for what was asked for. The largest honest one is a picture of
	// 10,000 by 10,000 pixels in base64.
	maxAnswer = 256 << 20
	// maxEvent is for what was not. The largest honest one is a request that is
	// held, with the body that it sends.
	maxEvent = 32 << 20

	keptHead = 4 << 10 // bytes of one that is too long
	keptEnd  = 128
)

const (
	eventStart  = `{"method":"`
	answerStart = `{"id":`
)

// readMessage reads one message, of which an event may have so many bytes and
// all else as many as an answer. Of one that is too long it gives the beginning
// and, where it is nil otherwise, the end.
func readMessage(br *bufio.Reader, answer, event int) (msg, end []byte, err error) {
	limit, read := answer, 0
	for {
		part, err := br.ReadSlice(0)
		if read == 0 && bytes.HasPrefix(part, []byte(eventStart)) {
			limit = event
		}
		read += len(part)
		switch {
		case read <= limit:
			msg = append(msg, part...)
		default:
			if end == nil {
				end = bytes.Clone(msg[max(0, len(msg)-keptEnd):])
				msg = append(msg, part[:min(len(part), keptHead)]...)
				msg = bytes.Clone(msg[:min(len(msg), keptHead)])
			}
			end = append(end, part[max(0, len(part)-keptEnd):]...)
			end = end[max(0, len(end)-keptEnd):]
		}
		switch {
		case err == nil && end != nil:
			return msg, end[:len(end)-1], nil
		case err == nil:
			return msg[:len(msg)-1], nil, nil
		case err != bufio.ErrBufferFull:
			return nil, nil, err
		}
	}
}

// deliverCut takes a message that was too long. Who waits for it is told so; an
// event goes to who listens, with what could be read of it.
func (c *client) deliverCut(head, end []byte) {
	if rest, ok := bytes.CutPrefix(head, []byte(answerStart)); ok {
		digits, _, _ := bytes.Cut(rest, []byte(`,`))
		if id, err := strconv.Atoi(string(digits)); err == nil {
			c.answer(id, answer{err: ErrTooLong})
		}
		return
	}
	rest, ok := bytes.CutPrefix(head, []byte(eventStart))
	name, params, found := bytes.Cut(rest, []byte(`","params":`))
	if !ok || !found {
		return
	}
	session := ""
	if _, id, ok := bytes.Cut(end, []byte(`},"sessionId":"`)); ok && bytes.HasSuffix(id, []byte(`"}`)) {
		session = string(bytes.TrimSuffix(id, []byte(`"}`)))
	}
	c.tell(session, event{Method: string(name), Params: cutShort(params), cut: true})
}

// cutShort makes parameters of the beginning of ones that were too long: their
// first members as far as these are no objects or lists, and cut, which is true.
func cutShort(params []byte) json.RawMessage {
	members := make(map[string]any)
	for dec, name := json.NewDecoder(bytes.NewReader(params)), ""; ; {
		t, err := dec.Token()
		if err != nil {
			break
		}
		if d, ok := t.(json.Delim); ok {
			if d == '{' && len(members) == 0 && name == "" {
				continue // which opens them
			}
			break
		}
		if name == "" {
			name, _ = t.(string)
			continue
		}
		members[name], name = t, ""
	}
	members["cut"] = true
	b, err := json.Marshal(members)
	if err != nil {
		return json.RawMessage(`{"cut":true}`)
	}
	return b
}
