package s3

import (
	"context"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3response"
)

func (f *folder) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	bucket, err := f.existing(in.Bucket)
	if err != nil {
		return s3response.InitiateMultipartUploadResult{}, err
	}
	own := in
	own.Bucket = bucket
	out, err := f.files.CreateMultipartUpload(ctx, own)
	out.Bucket = *in.Bucket
	return out, f.tell("create multipart upload", err)
}

// UploadPart does not sync: a part counts for nothing until the upload is
// complete, and then its bytes have been copied into the object.
func (f *folder) UploadPart(ctx context.Context, in *awss3.UploadPartInput) (*awss3.UploadPartOutput, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return nil, err
	}
	out, err := f.files.UploadPart(ctx, &own)
	return out, f.tell("upload part", err)
}

// CompleteMultipartUpload returns once the object is durable. If it fails in
// the sync, the object may be there all the same.
func (f *folder) CompleteMultipartUpload(ctx context.Context, in *awss3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return s3response.CompleteMultipartUploadResult{}, "", err
	}
	out, version, err := f.files.CompleteMultipartUpload(ctx, &own)
	if err == nil {
		err = f.keep(*in.Bucket, *in.Key)
	}
	out.Bucket = in.Bucket
	return out, version, f.tell("complete multipart upload", err)
}

func (f *folder) AbortMultipartUpload(ctx context.Context, in *awss3.AbortMultipartUploadInput) error {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return err
	}
	return f.tell("abort multipart upload", f.files.AbortMultipartUpload(ctx, &own))
}

func (f *folder) ListMultipartUploads(ctx context.Context, in *awss3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return s3response.ListMultipartUploadsResult{}, err
	}
	out, err := f.files.ListMultipartUploads(ctx, &own)
	out.Bucket = *in.Bucket
	return out, f.tell("list multipart uploads", err)
}
