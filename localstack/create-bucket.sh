#!/usr/bin/env bash
# Run inside the LocalStack container once it is ready.
awslocal s3 mb s3://aquifer
