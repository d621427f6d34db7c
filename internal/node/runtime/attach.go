package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"fairway.dev/fairway/internal/node/shim"
)

// AttachOptions say where a container's streams go; a nil stream is left out.
type AttachOptions struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer   // on a terminal all comes on Stdout
	Sizes          <-chan Size // of the terminal, as they change
}

// Attach connects with the streams of the container's own process: what it prints from now on, and what it reads. It returns when the
// container has ended, which is not an error, or ctx has.
func (c *Running) Attach(ctx context.Context, o AttachOptions) error {
	if err := c.attach(ctx, o); err != nil && ctx.Err() == nil {
		return fmt.Errorf("container %s: attach: %w", c.ID, err)
	}
	return ctx.Err()
}

func (c *Running) attach(ctx context.Context, o AttachOptions) error {
	conn, err := shim.Dial(c.Place.State)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var hello []byte
	if o.Stdin != nil {
		hello = []byte{1}
	}
	if err := shim.WriteFrame(conn, shim.FrameHello, hello); err != nil {
		return err
	}
	if o.Stdin != nil {
		go func() { // ends with the client's stream or the connection
			if _, err := io.Copy(inputFrames{conn}, o.Stdin); err == nil {
				_ = shim.WriteFrame(conn, shim.FrameEnd, nil)
			}
		}()
	}
	if o.Sizes != nil {
		go func() { // ends with the client's stream
			for s := range o.Sizes {
				size := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Width), s.Height)
				_ = shim.WriteFrame(conn, shim.FrameSize, size)
			}
		}()
	}
	for {
		kind, content, err := shim.ReadFrame(conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		to := map[shim.Frame]io.Writer{shim.FrameStdout: o.Stdout, shim.FrameStderr: o.Stderr}[kind]
		if to == nil {
			continue
		}
		if _, err := to.Write(content); err != nil {
			return err
		}
	}
}

// inputFrames writes each piece of input as a frame.
type inputFrames struct{ to io.Writer }

func (f inputFrames) Write(b []byte) (int, error) {
	const piece = 32 << 10
	for done := 0; done < len(b); done += piece {
		if err := shim.WriteFrame(f.to, shim.FrameInput, b[done:min(done+piece, len(b))]); err != nil {
			return done, err
		}
	}
	return len(b), nil
}
