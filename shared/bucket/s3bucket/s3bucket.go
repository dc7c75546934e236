// Package s3bucket is the bucket driver for Amazon S3 and servers that speak its
// protocol.
//
//	open.go     credentials, region, endpoint: from a URL and the SDK's own settings
//	s3bucket.go the calls
//	list.go     listing
//	errors.go   S3's error codes, in the port's classes
//	patient.go  an HTTP client that gives a stalled call up, so that it is retried
//
// Retries are the SDK's standard ones. An agent needs s3:GetObject, s3:PutObject,
// s3:DeleteObject and s3:AbortMultipartUpload on the objects, and s3:ListBucket on
// the bucket.
//
// Verified against versitygw; Amazon's own S3 was not within reach.
package s3bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"anycloud/shared/bucket"
)

// Objects is one bucket. It implements bucket.Objects.
type Objects struct {
	name   string
	client *s3.Client
	large  *transfermanager.Client
}

var _ bucket.Objects = (*Objects)(nil)

// PutIfAbsent implements bucket.Objects: a PUT with If-None-Match.
func (o *Objects) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	_, err := o.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &o.name, Key: &key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), IfNoneMatch: aws.String("*"),
	})
	return o.failed("put if absent", key, err)
}

// Put implements bucket.Objects. A large object goes up in parts, which are taken
// back if one fails.
func (o *Objects) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	_, err := o.large.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &o.name, Key: &key, Body: &exactly{r: r, left: size}})
	return o.failed("put", key, err)
}

// exactly reads as many bytes as were announced, or fails: an object of another
// size must not come to be.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case e.left < 0:
		return 0, errors.New("the source has more bytes than announced")
	case err == io.EOF && e.left > 0:
		return 0, fmt.Errorf("the source ended %d bytes early: %w", e.left, io.ErrUnexpectedEOF)
	}
	return n, err
}

// Get implements bucket.Objects. A reader that breaks off says so; the caller
// reads again from where it was.
func (o *Objects) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := bucket.CheckKey(key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("get %s: offset %d is negative", key, offset)
	}
	in := &s3.GetObjectInput{Bucket: &o.name, Key: &key}
	if offset > 0 || length >= 0 {
		// There is no range of no bytes: one is asked for, and not read.
		last := ""
		if length >= 0 {
			last = strconv.FormatInt(offset+max(length, 1)-1, 10)
		}
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%s", offset, last))
	}
	out, err := o.client.GetObject(ctx, in)
	if codeOf(err) == "InvalidRange" {
		return io.NopCloser(bytes.NewReader(nil)), nil // it begins at the end, or behind it
	}
	if err != nil {
		return nil, o.failed("get", key, err)
	}
	if length == 0 {
		return io.NopCloser(bytes.NewReader(nil)), out.Body.Close()
	}
	return out.Body, nil
}

// Delete implements bucket.Objects.
func (o *Objects) Delete(ctx context.Context, key string) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	_, err := o.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &o.name, Key: &key})
	if err = o.failed("delete", key, err); errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		return nil
	}
	return err
}
